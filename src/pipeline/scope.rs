//! Owns the variables that conditions and names are held against.

use std::collections::HashMap;

use super::job::Variable;

/// What is longer is no path, name or pattern; the rest stays as it is.
const LONGEST: usize = 64 * 1024;

/// What is known of one job, or of the pipeline: settings win over the file's words, those over what is predefined.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub known: &'a Known,
    /// The file's own, a later one wins.
    pub file: &'a [Variable],
}

/// What is known before the file is read.
pub(super) struct Known {
    predefined: HashMap<String, String>,
    settings: HashMap<String, String>,
}

impl Known {
    pub fn new(predefined: &[(String, String)], settings: &[(String, String)]) -> Self {
        Known { predefined: predefined.iter().cloned().collect(), settings: settings.iter().cloned().collect() }
    }

    /// A predefined variable.
    pub fn predefined(&self, name: &str) -> Option<&str> {
        self.predefined.get(name).map(String::as_str)
    }
}

impl Scope<'_> {
    /// The value of a variable as written.
    pub fn value(&self, name: &str) -> Option<String> {
        let file = || self.file.iter().rev().find(|variable| variable.key == name).map(|v| v.value.clone());
        let Known { predefined, settings } = self.known;
        settings.get(name).cloned().or_else(file).or_else(|| predefined.get(name).cloned())
    }

    /// `text` with `$NAME` and `${NAME}` replaced; the unknown becomes empty.
    pub fn expand(&self, text: &str) -> String {
        if !text.contains('$') {
            return text.to_owned();
        }
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$').filter(|_| expanded.len() < LONGEST) {
            expanded.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let inner = after.strip_prefix('{').unwrap_or(after);
            let braced = inner.len() < after.len();
            let length = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
            if length == 0 || (braced && !inner[length..].starts_with('}')) {
                expanded.push('$');
                rest = after;
                continue;
            }
            expanded.push_str(&self.value(&inner[..length]).unwrap_or_default());
            rest = &inner[length + usize::from(braced)..];
        }
        expanded.push_str(rest);
        expanded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_win_over_the_file_and_the_file_over_what_is_predefined() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let known = Known::new(&[pair("A", "p"), pair("B", "p"), pair("C", "p")], &[pair("C", "s")]);
        let variable = |key: &str| Variable { key: key.into(), value: "f".into(), raw: false };
        let file = [variable("B"), variable("C")];
        let scope = Scope { known: &known, file: &file };

        assert_eq!(scope.expand("$A${B}-$C-$D.$ ${"), "pf-s-.$ ${");
    }
}
