//! Owns a job's variables and GitLab Runner's one-pass expansion of them.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::parts::or_default;

/// No value grows beyond this by what it names; a whole claim is not longer.
const LONGEST_VALUE: usize = 4 << 20;

/// When expanded values have come to so many bytes, the others stay as they are.
const MOST_VALUES: usize = 16 << 20;

/// One variable as GitLab sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// The name.
    pub key: String,
    /// The value; for a file variable the file's content.
    #[serde(deserialize_with = "text")]
    pub value: String,
    /// May be shown to everybody who sees the job: it may stand in a container's environment.
    #[serde(deserialize_with = "or_default")]
    pub public: bool,
    /// Its value is replaced by `[MASKED]` in the trace.
    #[serde(deserialize_with = "or_default")]
    pub masked: bool,
    /// The job sees the path of a file that holds the value.
    #[serde(deserialize_with = "or_default")]
    pub file: bool,
    /// Its value is not expanded.
    #[serde(deserialize_with = "or_default")]
    pub raw: bool,
}

impl Variable {
    /// A public variable that is not expanded.
    pub fn public(key: &str, value: impl Into<String>) -> Self {
        Variable { key: key.into(), value: value.into(), public: true, raw: true, ..Variable::default() }
    }
}

/// Where the contents of file variables lie.
const TEMP_DIR: &str = "RUNNER_TEMP_PROJECT_DIR";

/// A job's variables in order; of two with one name the later counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(Vec<Variable>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|v| &v.key)).finish()
    }
}

impl FromIterator<Variable> for Variables {
    fn from_iter<I: IntoIterator<Item = Variable>>(variables: I) -> Self {
        Variables(variables.into_iter().collect())
    }
}

impl Variables {
    /// All of them, in GitLab's order, earlier definitions of a name included.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Variable> {
        self.0.iter()
    }

    /// Adds one that counts before all that are there.
    pub fn push(&mut self, variable: Variable) {
        self.0.push(variable);
    }

    /// The variable that counts under `key`.
    pub fn find(&self, key: &str) -> Option<&Variable> {
        self.0.iter().rev().find(|v| v.key == key)
    }

    /// The value under `key` as it stands here (for a file variable: the content).
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|v| v.value.as_str())
    }

    /// Whether `key` says yes as Go's `strconv.ParseBool` reads it; anything unreadable is `default`.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(parse_bool).unwrap_or(default)
    }

    /// The values that must never show in the trace, longest first.
    pub fn masked_values(&self) -> Vec<String> {
        let mut values: Vec<String> =
            self.0.iter().filter(|v| v.masked).map(|v| v.value.trim().to_owned()).filter(|v| !v.is_empty()).collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        values
    }

    /// Every variable with its value expanded once against these (runner-behaviour.md §3.9).
    ///
    /// A file variable keeps its content; other values that name it get the path of its file.
    pub fn expanded(&self) -> Variables {
        let known: HashMap<&str, &Variable> = self.0.iter().map(|v| (v.key.as_str(), v)).collect();
        let look_up = |name: &str| self.value_of(known.get(name).copied());
        let mut room = MOST_VALUES;
        let expand = |v: &Variable| {
            if v.raw || room == 0 {
                return v.clone();
            }
            let value = expand(&v.value, &look_up);
            room = room.saturating_sub(value.len());
            Variable { value, ..v.clone() }
        };
        self.0.iter().map(expand).collect()
    }

    /// Expands `$NAME` and `${NAME}` in `text` against these variables, once.
    pub fn expand(&self, text: &str) -> String {
        expand(text, &|name| self.value_of(self.find(name)))
    }

    /// What a reference to `variable` stands for.
    fn value_of<'a>(&'a self, variable: Option<&'a Variable>) -> Cow<'a, str> {
        match variable {
            None => "".into(),
            Some(Variable { key, file: true, .. }) => {
                format!("{}/{key}", self.get(TEMP_DIR).unwrap_or_default()).into()
            }
            Some(variable) => variable.value.as_str().into(),
        }
    }
}

/// GitLab Runner's expansion, which is that of Go's `os.Expand`: `$$` is a dollar, whatever has no value is empty,
/// `${A:-b}` included, and so are the shell's own parameters.
fn expand<'a>(text: &str, look_up: &impl Fn(&str) -> Cow<'a, str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (value, eaten) = reference(rest, look_up);
        // A few values that name one another would fill any memory.
        if out.len() + value.len() <= LONGEST_VALUE {
            out.push_str(&value);
        }
        rest = &rest[eaten..];
    }
    out.push_str(rest);
    out
}

/// The value of what stands behind a dollar, and how long that is.
fn reference<'a>(rest: &str, look_up: &impl Fn(&str) -> Cow<'a, str>) -> (Cow<'a, str>, usize) {
    let value = |name: &str| special(name).map_or_else(|| look_up(name), Cow::from);
    match rest.chars().next() {
        Some('{') => match rest.find('}') {
            Some(end) => (value(&rest[1..end]), end + 1),
            // What is not closed is no reference: its two signs are left out.
            None => ("".into(), 1),
        },
        Some(c) if special(&rest[..c.len_utf8()]).is_some() => (value(&rest[..1]), 1),
        Some(c) if c == '_' || c.is_ascii_alphabetic() => {
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            (value(&rest[..end]), end)
        }
        _ => ("$".into(), 0),
    }
}

/// Reads a word as Go's `strconv.ParseBool` does.
pub(super) fn parse_bool(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The value of a name that no variable can have.
fn special(name: &str) -> Option<&'static str> {
    match name {
        "$" => Some("$"),
        "*" | "#" | "@" | "!" | "?" | "-" => Some(""),
        name if name.len() == 1 && name.as_bytes()[0].is_ascii_digit() => Some(""),
        _ => None,
    }
}

/// GitLab sends strings; a number or a boolean from a custom server is read as its text.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(k, v)| Variable { key: (*k).into(), value: (*v).into(), ..Variable::default() }).collect()
    }

    #[test]
    fn values_are_expanded_as_gitlab_runner_does() {
        let all = variables(&[("A", "one"), ("B", "$A"), ("LAST", "1"), ("LAST", "2"), ("a.b", "dotted")]);
        for (text, expected) in [
            ("$A", "one"),
            ("${A}x", "onex"),
            ("$Ax", ""),
            ("$$A", "$A"),
            ("a$", "a$"),
            ("${A", "A"),
            ("${}x", "x"),
            ("${$}A", "$A"),
            ("${1}$1x", "x"),
            ("${A:-b}c", "c"),
            ("${a.b}", "dotted"),
            ("$é$", "$é$"),
            ("$1$?$@-", "-"),
            ("$.x", "$.x"),
            ("$B", "$A"),
            ("$LAST", "2"),
            ("$NOPE-", "-"),
        ] {
            assert_eq!(all.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn each_value_is_expanded_once_against_the_unexpanded_list() {
        let mut all = variables(&[("A", "$B"), ("B", "$C"), ("C", "see"), ("USES", "$CERT")]);
        all.push(Variable { key: "RAW".into(), value: "$C".into(), raw: true, ..Variable::default() });
        all.push(Variable { key: "CERT".into(), value: "pem".into(), file: true, ..Variable::default() });

        all.push(Variable::public(TEMP_DIR, "/tmp"));

        let expanded = all.expanded();

        assert_eq!(expanded.get("A"), Some("$C"));
        assert_eq!(expanded.get("B"), Some("see"));
        assert_eq!(expanded.get("RAW"), Some("$C"));
        assert_eq!(expanded.get("USES"), Some("/tmp/CERT"));
        assert_eq!(expanded.get("CERT"), Some("pem"));
        assert_eq!(expanded.expand("$A $CERT $RAW"), "$C /tmp/CERT $C");
    }

    #[test]
    fn values_that_name_one_another_do_not_fill_the_memory() {
        let long = "x".repeat(1 << 20);
        let many = "$LONG".repeat(1000);
        let mut all = variables(&[("LONG", &long)]);
        (0..100).for_each(|n| all.push(Variable { key: format!("N{n}"), value: many.clone(), ..Variable::default() }));
        let total: usize = all.expanded().iter().map(|variable| variable.value.len()).sum();
        assert!(total < MOST_VALUES + 2 * LONGEST_VALUE, "{total}");
    }

    #[test]
    fn masked_values_come_longest_first_without_blanks() {
        let masked = |value: &str| Variable { value: value.into(), masked: true, ..Variable::default() };
        let all: Variables = [masked("abc"), masked(" abcdef\n"), masked(""), masked("abc")].into_iter().collect();
        assert_eq!(all.masked_values(), ["abcdef", "abc"]);
    }
}
