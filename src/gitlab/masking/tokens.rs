//! Hides tokens by the prefixes that GitLab gives them (runner-behaviour.md §7.2).

use super::redact::{Redactor, Rules};

/// `FF_MASK_ALL_DEFAULT_TOKENS` off leaves the first.
const PREFIXES: [&str; 14] = [
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// A redactor for tokens with the built-in prefixes (all of them, or `glpat-` only) and those that the server names.
///
/// GitLab Runner takes the 15 shortest in all and drops the rest; here all count: a token more that is hidden harms nobody.
pub(super) fn token_redactor(all_defaults: bool, from_server: &[String]) -> Redactor {
    let built_in = if all_defaults { &PREFIXES[..] } else { &PREFIXES[..1] };
    let words: Vec<&str> = built_in.iter().copied().chain(from_server.iter().map(String::as_str)).collect();
    Redactor::new(&words, Rules { any_case: false, hides_nothing: false, is_secret: is_token })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(all: bool, from_server: &[&str], text: &str) -> String {
        let from_server: Vec<String> = from_server.iter().map(|p| (*p).to_owned()).collect();
        let whole = {
            let mut out = Vec::new();
            token_redactor(all, &from_server).write(text.as_bytes(), &mut out);
            out
        };
        let mut by_byte = Vec::new();
        let mut redactor = token_redactor(all, &from_server);
        text.bytes().for_each(|byte| redactor.write(&[byte], &mut by_byte));
        assert_eq!(whole, by_byte);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn tokens_are_hidden_behind_their_prefix() {
        for (text, expected) in [
            ("use glpat-Ab1_.=-x, please", "use glpat-[MASKED], please"),
            ("glpat- is a prefix", "glpat- is a prefix"),
            ("aglpat-1\nglrt-t1_2\n", "aglpat-[MASKED]\nglrt-[MASKED]\n"),
            ("glglpat-1", "glglpat-[MASKED]"),
            ("_gitlab_session=12", "_gitlab_session=[MASKED]"),
            ("glxx-1", "glxx-1"),
        ] {
            assert_eq!(redacted(true, &[], text), expected);
        }
    }

    #[test]
    fn the_server_may_name_more_and_the_job_may_want_fewer() {
        assert_eq!(redacted(false, &["acme-", ""], "acme-1 glrt-2 glpat-3"), "acme-[MASKED] glrt-2 glpat-[MASKED]");
    }
}
