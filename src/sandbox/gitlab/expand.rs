//! Expands `$NAME` and `${NAME}` as GitLab does on its own side: in tags and environment names.

/// `text` with every reference replaced by what `value` knows; the unknown becomes empty.
pub(super) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (braced, name_at) = match after.strip_prefix('{') {
            Some(inner) => (true, inner),
            None => (false, after),
        };
        let length = name_at.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name_at.len());
        let closed = !braced || name_at[length..].starts_with('}');
        if length == 0 || !closed {
            expanded.push('$');
            rest = after;
            continue;
        }
        expanded.push_str(&value(&name_at[..length]).unwrap_or_default());
        rest = &name_at[length + usize::from(braced)..];
    }
    expanded.push_str(rest);
    expanded
}

/// `CI_COMMIT_REF_SLUG` and its like: 63 lower-case letters, digits and dashes, no dash at the ends.
pub(super) fn slug(text: &str) -> String {
    let mut slug: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    slug.truncate(63);
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_and_the_unknown_becomes_empty() {
        let value = |name: &str| (name == "A").then(|| "x".to_owned());

        assert_eq!(expand("review/$A-${A}/${B}$C $ ${", value), "review/x-x/ $ ${");
    }

    #[test]
    fn a_slug_fits_into_a_host_name() {
        assert_eq!(slug("Feature/ÄB_c-"), "feature--b-c");
        assert_eq!(slug(&"a".repeat(80)).len(), 63);
    }
}
