//! Owns a job's variables and GitLab Runner's one-pass expansion of them.

use serde::{Deserialize, Serialize};

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
    pub public: bool,
    /// Its value is replaced by `[MASKED]` in the trace.
    pub masked: bool,
    /// The job sees the path of a file that holds the value.
    pub file: bool,
    /// Its value is not expanded.
    pub raw: bool,
}

impl Variable {
    /// A public variable that is not expanded.
    pub fn public(key: &str, value: impl Into<String>) -> Self {
        Variable { key: key.into(), value: value.into(), public: true, raw: true, ..Variable::default() }
    }
}

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

    /// The value under `key`, expanded: what a runner itself reads of a job's variables is read so.
    pub fn setting(&self, key: &str) -> Option<String> {
        self.find(key).map(|v| if v.raw { v.value.clone() } else { self.expand(&v.value) })
    }

    /// Whether `key` says yes as Go's `strconv.ParseBool` reads it; anything unreadable is `default`.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.setting(key).and_then(|text| read_bool(&text)).unwrap_or(default)
    }

    /// The values that must never show in the trace, longest first.
    pub fn masked_values(&self) -> Vec<String> {
        let mut values: Vec<String> =
            self.0.iter().filter(|v| v.masked).map(|v| v.value.trim().to_owned()).filter(|v| !v.is_empty()).collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        values
    }

    /// Every variable with its value expanded once against the unexpanded list (runner-behaviour.md §3.9).
    ///
    /// `file_path` says where a file variable's content lies; other values that name it get that path.
    pub fn expanded(&self, file_path: impl Fn(&str) -> String) -> Variables {
        let look_up = |name: &str| self.reference(name, &file_path);
        self.0
            .iter()
            .map(|v| if v.raw { v.clone() } else { Variable { value: expand(&v.value, &look_up), ..v.clone() } })
            .collect()
    }

    /// Expands `$NAME` and `${NAME}` in `text` against these variables, once.
    pub fn expand(&self, text: &str) -> String {
        expand(text, &|name| self.get(name).map(str::to_owned))
    }

    fn reference(&self, name: &str, file_path: &impl Fn(&str) -> String) -> Option<String> {
        self.find(name).map(|v| if v.file { file_path(&v.key) } else { v.value.clone() })
    }
}

/// Yes or no as Go's `strconv.ParseBool` reads it.
pub(super) fn read_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// GitLab Runner's expansion: `$$` is a dollar, an unknown name is empty, `${A:-b}` is empty, shell specials are empty.
fn expand(text: &str, look_up: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(next) = rest.chars().next() else {
            out.push('$');
            break;
        };
        match next {
            '$' => {
                out.push('$');
                rest = &rest[1..];
            }
            '{' => match rest.find('}') {
                Some(end) => {
                    let name = &rest[1..end];
                    if is_name(name) {
                        out.push_str(&look_up(name).unwrap_or_default());
                    }
                    rest = &rest[end + 1..];
                }
                None => out.push('$'),
            },
            '*' | '#' | '@' | '!' | '?' | '-' | '0'..='9' => rest = &rest[1..],
            c if c == '_' || c.is_ascii_alphabetic() => {
                let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                out.push_str(&look_up(&rest[..end]).unwrap_or_default());
                rest = &rest[end..];
            }
            _ => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
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
        let all = variables(&[("A", "one"), ("B", "$A"), ("LAST", "1"), ("LAST", "2")]);
        for (text, expected) in [
            ("$A", "one"),
            ("${A}x", "onex"),
            ("$Ax", ""),
            ("$$A", "$A"),
            ("a$", "a$"),
            ("${A", "${A"),
            ("${A:-b}c", "c"),
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

        let expanded = all.expanded(|key| format!("/tmp/{key}"));

        assert_eq!(expanded.get("A"), Some("$C"));
        assert_eq!(expanded.get("B"), Some("see"));
        assert_eq!(expanded.get("RAW"), Some("$C"));
        assert_eq!(expanded.get("USES"), Some("/tmp/CERT"));
        assert_eq!(expanded.get("CERT"), Some("pem"));
    }

    #[test]
    fn masked_values_come_longest_first_without_blanks() {
        let masked = |value: &str| Variable { value: value.into(), masked: true, ..Variable::default() };
        let all: Variables = [masked("abc"), masked(" abcdef\n"), masked(""), masked("abc")].into_iter().collect();
        assert_eq!(all.masked_values(), ["abcdef", "abc"]);
    }
}
