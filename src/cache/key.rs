//! Makes a cache key safe to stand in an object's name (runner-behaviour.md §5.1).

use sha2::{Digest, Sha256};
use thiserror::Error;

/// S3 takes names of 1,024 bytes; the rest is for what stands before the key.
const LONGEST_KEY: usize = 768;

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Nothing is left of it.
    #[error("cache key \"{0}\" could not be sanitized")]
    NothingLeft(String),
    /// A name with line breaks and the like would break listings and logs.
    #[error("cache key \"{0}\" holds control characters: leave them out")]
    ControlCharacters(String),
    /// S3 would refuse the name.
    #[error("a cache key of {0} bytes is too long: use at most {LONGEST_KEY}, or `cache:key:files`")]
    TooLong(usize),
    /// There is no key, nor a job name to make one of.
    #[error("empty cache key")]
    Empty,
}

/// The key as it stands in object names: a relative path without `.`, `..` or empty parts.
///
/// Backslashes, and dots and slashes in percent encoding, count as what they mean; other percent signs are literal. Like a path below a root, a key
/// cannot climb: `../../a` is `a`.
///
/// ```
/// use mayfly::cache::key::sanitized;
/// assert_eq!(sanitized("deps/%2e%2E/main ").unwrap(), "main");
/// assert!(sanitized("..").is_err());
/// ```
///
/// # Errors
/// See [`KeyError`].
pub fn sanitized(raw: &str) -> Result<String, KeyError> {
    if raw.is_empty() {
        return Err(KeyError::Empty);
    }
    let mut key = decoded(raw);
    loop {
        // Each step can bring out work for the other: `a/.. ` ends in `..` only without its blank.
        let next = resolved(key.trim_end_matches(|c: char| c == '/' || c.is_whitespace()));
        if next == key {
            break;
        }
        key = next;
    }
    if key.is_empty() {
        return Err(KeyError::NothingLeft(raw.escape_debug().to_string()));
    }
    if key.chars().any(|c| c.is_control() && c != '\t') {
        return Err(KeyError::ControlCharacters(raw.escape_debug().to_string()));
    }
    if key.len() > LONGEST_KEY {
        return Err(KeyError::TooLong(key.len()));
    }
    Ok(key)
}

/// The name of a raw key's object with `FF_HASH_CACHE_KEYS`: a folder of the hash's first two digits, and the hash.
pub fn hashed(raw: &str) -> String {
    let hash = hex::encode(Sha256::digest(raw));
    format!("{}/{hash}", &hash[..2])
}

/// The key of a cache without one: the job's name and the ref, as one path.
pub fn of_job(job: &str, ref_name: &str) -> String {
    resolved(&[job, ref_name].join("/"))
}

/// Whether a key of this name belongs to protected refs only; GitLab alone may append the suffix.
pub fn is_reserved_for_protected_refs(key: &str) -> bool {
    key.trim_end_matches(|c: char| c == '.' || c == '/' || c.is_whitespace()).ends_with("-protected")
}

/// Whether `key` is the name of a [`hashed`] key's object: it does not tell whose.
pub fn is_hashed_name(key: &str) -> bool {
    let is_hash = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    key.split_once('/').is_some_and(|(shard, name)| is_hash(name) && name.starts_with(shard))
}

fn decoded(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let meant = match rest.get(..3).map(str::to_ascii_lowercase).as_deref() {
            Some("%2e") => Some('.'),
            Some("%2f") => Some('/'),
            _ => None,
        };
        rest = &rest[if meant.is_some() { 3 } else { c.len_utf8() }..];
        out.push(match meant.unwrap_or(c) {
            '\\' => '/',
            other => other,
        });
    }
    out
}

fn resolved(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_sanitised_as_gitlab_runner_does() {
        for (raw, expected) in [
            // As they are.
            ("main", "main"),
            ("main-1", "main-1"),
            ("main-1-non_protected", "main-1-non_protected"),
            ("build/main", "build/main"),
            ("a/b/c/d", "a/b/c/d"),
            ("with blanks inside", "with blanks inside"),
            (" leading", " leading"),
            ("...", "..."),
            (".hidden", ".hidden"),
            ("..hidden", "..hidden"),
            ("ends.", "ends."),
            ("a..b", "a..b"),
            ("a/..b", "a/..b"),
            ("a/.b", "a/.b"),
            ("a...", "a..."),
            ("größe/日本", "größe/日本"),
            ("$literal", "$literal"),
            ("100%", "100%"),
            ("%", "%"),
            ("%2", "%2"),
            ("%20", "%20"),
            ("%zz", "%zz"),
            ("%é", "%é"),
            ("a:b*c?d\"<>|", "a:b*c?d\"<>|"),
            ("~", "~"),
            // Slashes.
            ("/a", "a"),
            ("///a", "a"),
            ("a/", "a"),
            ("a///", "a"),
            ("a//b", "a/b"),
            ("/a//b/", "a/b"),
            ("\\a", "a"),
            ("a\\b", "a/b"),
            ("a\\\\b\\", "a/b"),
            ("\\/a/\\", "a"),
            ("%2fa%2Fb", "a/b"),
            ("%5ca%5Cb", "%5ca%5Cb"),
            ("some%2f../job/some/ref/.", "job/some/ref"),
            ("something %2F something", "something / something"),
            // Dots.
            ("./a", "a"),
            ("a/.", "a"),
            ("a/./b", "a/b"),
            ("../a", "a"),
            ("../../../a", "a"),
            ("a/../b", "b"),
            ("a/b/..", "a"),
            ("a/b/../..//c", "c"),
            ("a/../../b", "b"),
            ("..\\..\\a", "a"),
            ("%2e%2e/a", "a"),
            ("%2E%2E%2Fa", "a"),
            (".%2e/a", "a"),
            ("a/%2e", "a"),
            ("a%2eb", "a.b"),
            ("%2e%2e\\a", "a"),
            ("...\\a\\b", ".../a/b"),
            (".../....", ".../...."),
            ("%2e%2e%2e", "..."),
            // Once decoded is enough: nobody decodes an object's name again.
            ("%252e%252e/a", "%252e%252e/a"),
            ("%%2e", "%."),
            ("%2%65", "%2%65"),
            // Trailing blanks, and what they hide.
            ("a ", "a"),
            ("a  \t", "a"),
            ("a\n", "a"),
            ("a/ ", "a"),
            ("a / / ", "a"),
            ("a/.. /b", "a/.. /b"),
            ("b/a/.. ", "b"),
            ("b/a/.. /", "b"),
            ("b/a/../ ", "b"),
            ("a /b/..", "a"),
            ("a/. ", "a"),
            ("a/ /..", "a"),
            ("a/ /b", "a/ /b"),
            ("key/ / \\  \\", "key"),
            ("key / \\o", "key / /o"),
            ("\t a b \t\r", "\t a b"),
        ] {
            assert_eq!(sanitized(raw).as_deref(), Ok(expected), "{raw:?}");
        }
    }

    #[test]
    fn a_key_of_which_nothing_is_left_is_refused() {
        for raw in [
            "/",
            "//",
            ".",
            "..",
            "./",
            "../",
            "../..",
            "a/..",
            "a/../..",
            "\\",
            "\\..\\",
            "%2f",
            "%2e",
            "%2E%2e",
            "\\.",
            "//\\",
            " \t\r\n",
            " ",
            "  /  ",
            ".. ",
            "a/.. ",
            "a/../ ",
            "/.",
            "/..",
            "%2e%2e%2f%2e",
            "\n",
            "a/./..",
        ] {
            assert!(matches!(sanitized(raw), Err(KeyError::NothingLeft(_))), "{raw:?}");
        }
        assert_eq!(sanitized(""), Err(KeyError::Empty));
    }

    #[test]
    fn a_key_that_s3_or_a_log_cannot_carry_is_refused() {
        assert!(matches!(sanitized("a\nb"), Err(KeyError::ControlCharacters(_))));
        assert!(matches!(sanitized("a\0"), Err(KeyError::ControlCharacters(_))));
        assert!(!sanitized("\x1b[31m").unwrap_err().to_string().contains('\x1b'));
        assert_eq!(sanitized(&"k".repeat(769)), Err(KeyError::TooLong(769)));
    }

    #[test]
    fn the_suffix_of_protected_refs_is_known_behind_dots_and_blanks() {
        for key in
            ["-protected", "main-protected", "main-protected.", "main-protected . .", "a-protected/", "a-protected\t"]
        {
            assert!(is_reserved_for_protected_refs(key), "{key:?}");
        }
        for key in ["main", "main-non_protected", "main-protected-1", "protected", "main-protected/x"] {
            assert!(!is_reserved_for_protected_refs(key), "{key:?}");
        }
    }

    #[test]
    fn a_hashed_key_lies_in_a_folder_of_its_first_digits() {
        let name = hashed("main-protected");
        assert_eq!(name, "46/466a3df3e57a1b08df962a07ed964c83df72766aa83f2983c073ea49bd666866");
        assert!(is_hashed_name(&name) && !is_hashed_name("main/protected") && !is_hashed_name(&name.replace('/', "")));
        assert_eq!(of_job("build/../x", "/feature//y/"), "x/feature/y");
        assert_eq!(of_job("", ""), "");
    }

    proptest! {
        #[test]
        fn no_key_climbs_out_of_its_project(raw in r"([a-c]|[./\\ %]|%2[eEfF]|%5[cC]|\PC|\pC){0,24}") {
            if let Ok(key) = sanitized(&raw) {
                prop_assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")), "{key:?}");
                prop_assert!(!key.contains('\\') && !key.ends_with(' '));
            }
        }
    }
}
