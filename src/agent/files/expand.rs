//! Expands variables in paths as a shell does between double quotes (runner-behaviour.md §3.9, trap 7).

use std::collections::BTreeMap;

/// Deeper `${A:-${B:-…}}` stays as it is.
const DEEPEST: usize = 20;

/// `text` with `$A`, `${A}`, and `${A:-b}`, `${A-b}`, `${A:+b}`, `${A+b}`, `${A:=b}`, `${A=b}` replaced.
///
/// A backslash before `$`, a backslash, a quote or a backtick takes their meaning. What a shell could do beyond that
/// (commands, patterns) stays as written.
pub fn shell_expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    expand(text, environment, DEEPEST)
}

fn expand(text: &str, environment: &BTreeMap<String, String>, depth: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(escaped) = rest.strip_prefix('\\') {
            match escaped.chars().next().filter(|c| matches!(c, '$' | '\\' | '"' | '`')) {
                Some(c) => {
                    out.push(c);
                    rest = &escaped[1..];
                }
                None => {
                    out.push('\\');
                    rest = escaped;
                }
            }
            continue;
        }
        let (replaced, length) = match reference(rest, environment, depth) {
            Some(found) => found,
            None => ("$".to_owned(), 1),
        };
        out.push_str(&replaced);
        rest = &rest[length..];
    }
    out + rest
}

/// What the reference at the start of `text` means, and how long it is.
fn reference(text: &str, environment: &BTreeMap<String, String>, depth: usize) -> Option<(String, usize)> {
    let Some(inner) = text.strip_prefix("${") else {
        let name = name_at(&text[1..]);
        let value = environment.get(name).cloned().unwrap_or_default();
        return (!name.is_empty()).then_some((value, 1 + name.len()));
    };
    let length = closing_brace(inner)?;
    let inner = &inner[..length];
    let name = name_at(inner);
    let value = environment.get(name);
    let set = value.filter(|value| !value.is_empty());
    let word = |from: usize| {
        let word = &inner[name.len() + from..];
        if depth == 0 { word.to_owned() } else { expand(word, environment, depth - 1) }
    };
    let operator = &inner[name.len()..];
    let replaced = match operator.as_bytes() {
        _ if name.is_empty() => return None,
        [] => value.cloned().unwrap_or_default(),
        [b':', b'-' | b'=', ..] => set.cloned().unwrap_or_else(|| word(2)),
        [b'-' | b'=', ..] => value.cloned().unwrap_or_else(|| word(1)),
        [b':', b'+', ..] => set.map(|_| word(2)).unwrap_or_default(),
        [b'+', ..] => value.map(|_| word(1)).unwrap_or_default(),
        _ => return None,
    };
    Some((replaced, length + 3))
}

fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// Where the brace that is open at the start of `text` is closed.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' if before != '\\' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_expanded_as_a_shell_does_between_quotes() {
        let environment = [("A", "one"), ("B", "$A"), ("EMPTY", ""), ("_x1", "u")];
        let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (text, expected) in [
            ("$A/b", "one/b"),
            ("${A}b", "oneb"),
            ("$Ab", ""),
            ("$_x1/", "u/"),
            ("$B", "$A"),
            ("${NO}", ""),
            ("${NO:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO-d}", "d"),
            ("${NO:=d}", "d"),
            ("${A:-d}", "one"),
            ("${A:+d}", "d"),
            ("${EMPTY:+d}", ""),
            ("${EMPTY+d}", "d"),
            ("${NO:-${A}/x}y", "one/xy"),
            ("${NO:-$A}", "one"),
            ("${NO:-{a,b}}", "{a,b}"),
            ("{a,$A}", "{a,one}"),
            (r"\$A", "$A"),
            (r"\\$A", r"\one"),
            (r"\*", r"\*"),
            ("a$", "a$"),
            ("$1", "$1"),
            ("${A", "${A"),
            ("${}", "${}"),
            ("${A%x}", "${A%x}"),
            ("$(rm)", "$(rm)"),
            ("ä$A", "äone"),
        ] {
            if text == "${NO:-{a,b}}" {
                // A shell closes at the first brace that is not of a reference: the outer one stays behind.
                assert_eq!(shell_expand(text, &environment), "{a,b}", "{text}");
                continue;
            }
            assert_eq!(shell_expand(text, &environment), expected, "{text}");
        }
    }

    #[test]
    fn bottomless_references_end() {
        let text = "${N:-".repeat(100_000) + &"}".repeat(100_000);
        assert!(!shell_expand(&text, &BTreeMap::new()).is_empty());
    }
}
