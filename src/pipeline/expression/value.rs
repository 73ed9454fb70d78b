//! Owns the values of expressions and what they are compared like.

use regex::{Regex, RegexBuilder};

use super::lexer::pattern_length;

/// A value while an expression is held against variables.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    Pattern(Regex),
    Truth(bool),
}

impl Value {
    /// Ruby's truth, with `present?` for texts (`Statement#truthful?`).
    pub fn holds(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Text(text) => !text.trim().is_empty(),
            Value::Pattern(_) => true,
            Value::Truth(truth) => *truth,
        }
    }

    /// Ruby's truth.
    pub fn is_true(&self) -> bool {
        !matches!(self, Value::Null | Value::Truth(false))
    }

    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Text(one), Value::Text(other)) => one == other,
            (Value::Truth(one), Value::Truth(other)) => one == other,
            (Value::Pattern(one), Value::Pattern(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }

    /// `=~`: what is missing on the left is an empty text. A text on the right that is written as `/…/` is a pattern; in
    /// any other GitLab looks for the left one, the wrong way round (docs.gitlab.com/ci/jobs/job_rules).
    pub fn matches(&self, pattern: &Value) -> bool {
        let text = match self {
            Value::Text(text) => text.as_str(),
            Value::Null => "",
            Value::Pattern(_) | Value::Truth(_) => return false,
        };
        match pattern {
            Value::Pattern(pattern) => pattern.is_match(text),
            Value::Text(written) if pattern_length(written).is_some_and(|length| length == written.len()) => {
                regex(written).is_ok_and(|pattern| pattern.is_match(text))
            }
            Value::Text(written) => written.contains(text),
            Value::Null | Value::Truth(_) => false,
        }
    }
}

/// `/…/flags` as a regular expression. GitLab uses RE2, whose syntax this crate's is.
pub(in crate::pipeline) fn regex(written: &str) -> Result<Regex, String> {
    let end = written.rfind('/').unwrap_or_default();
    let (pattern, flags) = (written.get(1..end).unwrap_or_default(), &written[end + 1..]);
    RegexBuilder::new(&pattern.replace("\\/", "/"))
        .case_insensitive(flags.contains('i'))
        .dot_matches_new_line(flags.contains('s'))
        .multi_line(flags.contains('m'))
        .swap_greed(flags.contains('U'))
        .size_limit(1 << 20)
        .build()
        .map_err(|_| format!("`{written}` is no regular expression of RE2's"))
}
