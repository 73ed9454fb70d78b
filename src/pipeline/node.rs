//! Owns a node of the file and the few shapes that keywords may have.

use std::sync::Arc;

use super::error::ReadError;
use super::nearest::did_you_mean;

/// So many bytes of text weigh as much as a node: what bounds nodes bounds the memory.
pub(super) const TEXT_OF_A_NODE: usize = 256;

/// A value of the file with the line of its key.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The included file that it stands in; nothing for the configuration itself.
    pub file: Option<Arc<str>>,
    pub line: usize,
    pub tag: Option<String>,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// How many nodes this one is, itself included; a long text counts for several.
    pub fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { text, .. } => text.len() / TEXT_OF_A_NODE,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Map(entries) => entries.iter().map(|(key, value)| key.len() / TEXT_OF_A_NODE + value.size()).sum(),
        }
    }

    /// How many levels this node is deep.
    pub fn depth(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }

    /// Whether the value is there but empty, as in `image:`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn error(&self, what: impl Into<String>) -> ReadError {
        ReadError::at(self.line, what).in_file(self.file.as_deref())
    }

    /// What to say when this is the value of a key that `place` does not have.
    pub fn unknown_key<'a>(&self, place: &str, key: &str, known: impl IntoIterator<Item = &'a str>) -> ReadError {
        self.error(format!("`{place}` knows no `{key}`{}", did_you_mean(key, known)))
    }

    /// A value at the same place.
    pub fn with(&self, kind: Kind) -> Node {
        Node { file: self.file.clone(), line: self.line, tag: None, kind }
    }

    /// A string at the same place.
    pub fn with_text(&self, text: impl Into<String>) -> Node {
        self.with(Kind::Scalar { text: text.into(), plain: false })
    }

    /// The value of `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Takes the value of `key` out of a map.
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let Kind::Map(entries) = &mut self.kind else { return None };
        let at = entries.iter().position(|(known, _)| known == key)?;
        Some(entries.remove(at).1)
    }

    /// Sets the value of `key`, which keeps its place.
    pub fn set(&mut self, key: &str, value: Node) {
        let Kind::Map(entries) = &mut self.kind else { return };
        match entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => entries.push((key.to_owned(), value)),
        }
    }

    /// The items of a list, whatever stands nested in lists in their place.
    pub fn flat_items<'a>(&'a self, keyword: &str) -> Result<Vec<&'a Node>, ReadError> {
        self.untagged()?;
        let Kind::List(items) = &self.kind else {
            return Err(self.error(format!("`{keyword}` should be a list")));
        };
        let mut flat = Vec::new();
        for item in items {
            match item.kind {
                Kind::List(_) => flat.extend(item.flat_items(keyword)?),
                _ => flat.push(item),
            }
        }
        Ok(flat)
    }

    /// `text`, or nothing for a value that is empty.
    pub fn optional_text(&self, keyword: &str) -> Result<Option<String>, ReadError> {
        if self.is_null() { Ok(None) } else { self.text(keyword).map(Some) }
    }

    /// A whole number.
    pub fn number(&self, keyword: &str) -> Result<i64, ReadError> {
        self.untagged()?;
        match &self.kind {
            Kind::Scalar { text, plain: true } => text.replace('_', "").parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.error(format!("`{keyword}` should be a whole number")))
    }

    /// Whether the value is true or false.
    pub fn is_boolean(&self) -> bool {
        self.tag.is_none() && matches!(&self.kind, Kind::Scalar { text, plain: true } if as_boolean(text).is_some())
    }

    pub fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(_))
    }

    pub fn entries(&self, keyword: &str) -> Result<&[(String, Node)], ReadError> {
        self.untagged()?;
        match &self.kind {
            Kind::Map(entries) => Ok(entries),
            _ => Err(self.error(format!("`{keyword}` should be a map"))),
        }
    }

    /// A string, or a plain number or boolean as Ruby would print it (GitLab reads the file with Psych).
    pub fn text(&self, keyword: &str) -> Result<String, ReadError> {
        self.untagged()?;
        match &self.kind {
            Kind::Scalar { text, plain } if !self.is_null() => {
                Ok(if *plain { as_ruby_prints(text) } else { text.clone() })
            }
            _ => Err(self.error(format!("`{keyword}` should be a string"))),
        }
    }

    pub fn boolean(&self, keyword: &str) -> Result<bool, ReadError> {
        self.untagged()?;
        match &self.kind {
            Kind::Scalar { text, plain: true } => as_boolean(text),
            _ => None,
        }
        .ok_or_else(|| self.error(format!("`{keyword}` should be true or false")))
    }

    /// A list of strings, nested ones (as `!reference` leaves them) in one row.
    pub fn texts(&self, keyword: &str) -> Result<Vec<String>, ReadError> {
        match self.flat_items(keyword) {
            Ok(items) => items.into_iter().map(|item| item.text(keyword)).collect(),
            Err(_) if self.tag.is_none() => Err(self.error(format!("`{keyword}` should be a list of strings"))),
            Err(error) => Err(error),
        }
    }

    /// A string or a list of strings.
    pub fn one_or_more(&self, keyword: &str) -> Result<Vec<String>, ReadError> {
        match &self.kind {
            Kind::Scalar { .. } => Ok(vec![self.text(keyword)?]),
            _ => self.texts(keyword),
        }
    }

    /// A string or lists of strings, nested up to GitLab's ten levels, in one row.
    pub fn script(&self, keyword: &str) -> Result<Vec<String>, ReadError> {
        let mut lines = Vec::new();
        self.flatten(keyword, 0, &mut lines)?;
        Ok(lines)
    }

    pub fn one_of(&self, keyword: &str, allowed: &[&str]) -> Result<String, ReadError> {
        let text = self.text(keyword)?;
        if allowed.contains(&text.as_str()) {
            return Ok(text);
        }
        Err(self.error(format!("`{keyword}` should be one of `{}`, not `{text}`", allowed.join("`, `"))))
    }

    fn flatten(&self, keyword: &str, level: usize, lines: &mut Vec<String>) -> Result<(), ReadError> {
        self.untagged()?;
        match &self.kind {
            Kind::List(items) if level <= 10 => items.iter().try_for_each(|item| item.flatten(keyword, level + 1, lines)),
            Kind::Scalar { .. } => self.text(keyword).map(|line| lines.push(line)),
            _ => Err(self.error(format!(
                "`{keyword}` should be a string or a nested list of strings up to 10 levels deep (quote lines with `: `)"
            ))),
        }
    }

    fn untagged(&self) -> Result<(), ReadError> {
        match &self.tag {
            Some(tag) => Err(self.error(format!("GitLab knows no tag `{tag}`"))),
            None => Ok(()),
        }
    }
}

/// YAML 1.1, which Psych speaks, has more booleans than 1.2.
pub(super) fn as_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn as_ruby_prints(text: &str) -> String {
    if let Some(boolean) = as_boolean(text) {
        return boolean.to_string();
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { "-" } else { "" };
    let whole = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if whole(digits) {
        let octal = digits.len() > 1 && digits.starts_with('0');
        let radix = if octal { 8 } else { 10 };
        return match u128::from_str_radix(digits, radix) {
            Ok(number) => format!("{sign}{number}"),
            Err(_) => text.to_owned(),
        };
    }
    // `3.10` is the number 3.1: the classic surprise with version numbers, and GitLab has it, too.
    if let Some((before, after)) = digits.split_once('.')
        && whole(before)
        && whole(after)
        && text.len() < 17
    {
        let before = before.trim_start_matches('0');
        let after = after.trim_end_matches('0');
        let or_zero = |part: &str| if part.is_empty() { "0".to_owned() } else { part.to_owned() };
        return format!("{sign}{}.{}", or_zero(before), or_zero(after));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_and_booleans_read_as_ruby_prints_them() {
        let printed = ["3.10", "010", "1.0", "yes", "8080", "1.2.3", "-0.50", "0", "v1"].map(as_ruby_prints);

        assert_eq!(printed, ["3.1", "8", "1.0", "true", "8080", "1.2.3", "-0.5", "0", "v1"]);
    }
}
