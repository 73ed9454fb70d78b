//! Hides the values of URL parameters that open doors (runner-behaviour.md §7.2).

use super::redact::{Redactor, Rules};

const PARAMETERS: [&str; 6] =
    ["private_token", "authenticity_token", "rss_token", "x-amz-signature", "x-amz-credential", "x-amz-security-token"];

/// A redactor for `?private_token=…` and its like.
pub(super) fn url_redactor() -> Redactor {
    let words: Vec<String> = PARAMETERS.iter().flat_map(|name| [format!("?{name}="), format!("&{name}=")]).collect();
    Redactor::new(&words, Rules { any_case: true, hides_nothing: true, is_secret: is_value })
}

fn is_value(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'?' | b'&' | 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_known_parameters_are_hidden_wherever_chunks_are_cut() {
        for (text, expected) in [
            ("https://a/?private_token=abc&x=1 ", "https://a/?private_token=[MASKED]&x=1 "),
            ("?a=1&X-Amz-Signature=00ff\nnext", "?a=1&X-Amz-Signature=[MASKED]\nnext"),
            ("?rss_token=a?rss_token=b", "?rss_token=[MASKED]?rss_token=[MASKED]"),
            ("?private_token=", "?private_token=[MASKED]"),
            ("private_token=abc ?xprivate_token=1", "private_token=abc ?xprivate_token=1"),
            (
                "&x-amz-security-token=a%2Fb&x-amz-credential=c",
                "&x-amz-security-token=[MASKED]&x-amz-credential=[MASKED]",
            ),
        ] {
            for cut in 0..=text.len() {
                let mut out = Vec::new();
                let mut redactor = url_redactor();
                redactor.write(&text.as_bytes()[..cut], &mut out);
                redactor.write(&text.as_bytes()[cut..], &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
