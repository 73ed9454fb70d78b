//! Matches the wildcards `*` and `?`, in plain text and in ARNs.

/// Whether all of `text` matches `pattern`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and how far the text was then: it may take one character more each time.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether `arn` matches `pattern` in each of its six parts: no wildcard reaches beyond a colon before the last part.
pub(super) fn matches_arn(pattern: &str, arn: &str) -> bool {
    match (parts(pattern), parts(arn)) {
        (Some(pattern), Some(arn)) => pattern.iter().zip(arn).all(|(pattern, part)| matches(pattern, part)),
        _ => false,
    }
}

/// The six parts of an ARN.
pub(super) fn parts(arn: &str) -> Option<[&str; 6]> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    parts.try_into().ok().filter(|parts: &[&str; 6]| parts[0] == "arn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a/b:c", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a*b*c", "a-b-b-c", true),
            ("**", "x", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "ü", true),
            ("", "", true),
            ("", "a", false),
            ("abc", "ABC", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "`{pattern}` and `{text}`");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
        assert!(!matches(&format!("{}b", "a*".repeat(100)), &"a".repeat(5000)));
    }

    #[test]
    fn a_wildcard_stays_within_its_part_of_an_arn() {
        let task = "arn:aws:ecs:us-east-1:123456789012:task/mayfly/0a1b";
        for (pattern, expected) in [
            ("arn:aws:ecs:us-east-1:123456789012:task/mayfly/*", true),
            ("arn:aws:ecs:*:123456789012:task/*", true),
            ("arn:*:ecs:*:*:*", true),
            ("arn:aws:ecs:*:task/mayfly/*", false),
            ("arn:aws:*:task/mayfly/0a1b", false),
            ("arn:aws:ecs:us-east-1:123456789012:task/other/*", false),
            ("*", false),
            ("arn:aws:ecs", false),
        ] {
            assert_eq!(matches_arn(pattern, task), expected, "{pattern}");
        }
        // The last part holds colons itself.
        assert!(matches_arn(
            "arn:aws:ecs:r:1:task-definition/mayfly-*:*",
            "arn:aws:ecs:r:1:task-definition/mayfly-x:3"
        ));
    }
}
