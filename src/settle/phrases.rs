//! Reads ECS' error texts by whole phrases, and prepares them for a job's log.
//!
//! An error text quotes what the job's author wrote: an image called `denied-timeout:500` is neither a denial nor a
//! timeout. Names are removed before anything is looked for.

/// The longest part of an error text that a job's log repeats.
const LONGEST_SHOWN: usize = 400;

/// An error text in lower case, without image names, digests, URLs and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phrases(String);

impl Phrases {
    /// Reads `text`; `images` are the names that it may quote.
    pub(super) fn read(text: &str, images: &[&str]) -> Phrases {
        let mut out = String::new();
        let mut before = "";
        for word in text.split_whitespace() {
            let bare = word.trim_matches(|c: char| "\"'`\\()[]<>{},;:.".contains(c));
            let quoted_image = INTRODUCE_IMAGES.contains(&before) && images.iter().any(|image| names(image, bare));
            let shown = if is_name(bare) || quoted_image { word.replacen(bare, "…", 1) } else { word.to_lowercase() };
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&shown.replace('’', "'"));
            before = word;
        }
        Phrases(out)
    }

    /// Whether the text has one of `phrases`, which are in lower case, as whole words.
    pub(super) fn has(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.position(phrase).is_some())
    }

    /// Where `phrase` first stands as whole words.
    pub(super) fn position(&self, phrase: &str) -> Option<usize> {
        let in_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        self.0.match_indices(phrase).map(|(at, _)| at).find(|at| {
            let cut_before = phrase.starts_with(in_word) && self.0[..*at].ends_with(in_word);
            let cut_behind = phrase.ends_with(in_word) && self.0[at + phrase.len()..].starts_with(in_word);
            !cut_before && !cut_behind
        })
    }
}

/// Words after which an image name without tag and registry stands, as in `access denied for alpine`.
const INTRODUCE_IMAGES: [&str; 5] = ["ref", "reference", "for", "image", "repository"];

/// Whether `image` is `word`, with or without its tag.
fn names(image: &str, word: &str) -> bool {
    !word.is_empty() && (image == word || image.split([':', '@']).next() == Some(word))
}

/// Image names with a registry or a tag, digests, URLs, ARNs and addresses, but not the `i/o` of `i/o timeout`.
fn is_name(word: &str) -> bool {
    word != "i/o" && word.contains(['/', ':', '@'])
}

/// `text` as a job's log may show it: one line, not too long, without AWS account ids.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = without_accounts(&text);
    match text.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A job's log may be public: AWS account ids, 12 digits, are kept out of it.
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
        assert_eq!(shown("role arn:aws:iam::123456789012:role/x\n2026"), "role arn:aws:iam::<account>:role/x 2026");
        assert_eq!(shown(&"é".repeat(500)), format!("{}…", "é".repeat(LONGEST_SHOWN)));
    }

    #[test]
    fn names_are_removed_and_the_words_around_them_stay() {
        for (text, expected) in [
            ("failed to resolve ref docker.io/a/b:1: NOT found", "failed to resolve ref …: not found"),
            ("Get \"https://r.test/v2/\": dial tcp 10.0.0.1:443: i/o timeout", "get \"…\": dial tcp …: i/o timeout"),
            ("access denied for eof, repository does", "access denied for …, repository does"),
            ("layer sha256:00ff: no space left", "layer …: no space left"),
            ("can’t find it", "can't find it"),
        ] {
            assert_eq!(Phrases::read(text, &["eof:1"]).0, expected);
        }
    }

    #[test]
    fn only_whole_phrases_are_found() {
        let phrases = Phrases::read("CannotPullContainerError: the ref was not found: unEOFed, denied-by-me", &[]);
        assert!(phrases.has(&["not found", "absent"]));
        for absent in ["eof", "denied", "found: un", "pullcontainererror"] {
            assert!(!phrases.has(&[absent]), "{absent}");
        }
    }
}
