//! Prepares ECS's texts: for people, and for looking up phrases outside of what strangers have named.

use crate::plan::Plan;

/// ECS's own texts have up to 1,024 characters; a log line needs fewer.
const LONGEST: usize = 600;

/// A text of ECS for the job's log: one line, without account ids, not too long.
pub(super) fn readable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    without_accounts(&text)
}

/// A text of ECS in which phrases are looked up: lower case, without the names of images, digests and addresses. An image
/// may be called `denied` or `timeout`.
pub(super) fn phrases(text: &str, plan: Option<&Plan>) -> String {
    let mut text = text.to_lowercase();
    let images = plan.into_iter().flat_map(|plan| {
        let services = plan.services.iter().map(|service| service.image.as_str());
        [plan.build.image.as_str()].into_iter().chain(services)
    });
    let mut names: Vec<String> = images.flat_map(names_of).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        text = without_word(&text, &name);
    }
    let words = text.split_whitespace().filter(|word| !is_name(word));
    words.collect::<Vec<_>>().join(" ")
}

/// Whether `phrase` stands in `text` as whole words.
pub(super) fn has(text: &str, phrase: &str) -> bool {
    is_word_at(text, phrase).next().is_some()
}

/// An image as a job names it, and as errors may repeat it: without tag and digest, and its last part alone.
fn names_of(image: &str) -> Vec<String> {
    let image = image.to_lowercase();
    let whole = image.split('@').next().unwrap_or_default().to_owned();
    let last = whole.rsplit('/').next().unwrap_or_default().to_owned();
    let untagged = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    let short = [untagged(&last)];
    let mut names = vec![image, whole.clone(), last.clone()];
    names.extend(short);
    names.retain(|name| !name.is_empty());
    names
}

/// A path, an address, a reference with a tag or digest. `i/o` is none.
fn is_name(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| "\"'`()[]{},;:.".contains(c));
    if bare == "i/o" {
        return false;
    }
    bare.contains('/') || bare.contains("sha256") || bare.split_once(':').is_some_and(|(_, tag)| !tag.is_empty())
}

fn is_word_at<'a>(text: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(phrase).map(|(at, _)| at).filter(move |at| {
        let (before, after) = (&text[..*at], &text[at + phrase.len()..]);
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    })
}

fn without_word(text: &str, word: &str) -> String {
    let places: Vec<usize> = is_word_at(text, word).collect();
    let mut rest = text.to_owned();
    for at in places.into_iter().rev() {
        // Overlapping places were removed with the one behind them.
        if rest.get(at..at + word.len()) == Some(word) {
            rest.replace_range(at..at + word.len(), " ");
        }
    }
    rest
}

/// A job's log may be public: AWS account ids, 12 digits, are nobody else's business.
fn without_accounts(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() == 12 { "<account>" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_are_not_shown() {
        assert_eq!(
            readable("role arn:aws:iam::123456789012:role/x 2026\n"),
            "role arn:aws:iam::<account>:role/x 2026 "
        );
    }

    #[test]
    fn what_strangers_have_named_is_no_phrase() {
        for text in [
            "failed to resolve ref docker.io/denied/not-found:timeout",
            "failed to resolve ref registry.test:5000/a@sha256:00ff: done",
            "unexpected status https://registry.test/v2/denied/manifests/429:",
            "image \"timeout:denied\" cannot be used",
        ] {
            let text = phrases(text, None);
            for phrase in ["denied", "not found", "timeout", "429"] {
                assert!(!has(&text, phrase), "{phrase} in {text}");
            }
        }
        assert!(has(&phrases("dial tcp 10.0.0.1:443: i/o timeout", None), "i/o timeout"));
        assert!(has(&phrases("a/b:c: not found", None), "not found"));
    }

    #[test]
    fn phrases_are_whole_words() {
        assert!(has("it was denied", "denied") && !has("it was undenied", "denied") && !has("code 5003", "500"));
    }
}
