//! Owns the short form of a runner token, which names a runner in logs and cache keys.

/// The first 9 characters after the known prefixes (runner-behaviour.md §5.2).
///
/// ```
/// assert_eq!(mayfly::gitlab::short_token("glrt-t1_t9Wkyj-HGxyz"), "t9Wkyj-HG");
/// ```
pub fn short_token(token: &str) -> String {
    let mut rest = token;
    for prefix in ["glrt-", "glrtr-", "glcbt-", "GR1348941"] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    for partition in ["t1_", "t2_", "t3_"] {
        rest = rest.strip_prefix(partition).unwrap_or(rest);
    }
    rest.chars().take(9).collect()
}
