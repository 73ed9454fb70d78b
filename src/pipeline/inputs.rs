//! Owns `spec:inputs` and the interpolation of `$[[ inputs.x ]]`, also with functions.

use std::cell::Cell;
use std::collections::HashSet;

use super::error::ReadError;
use super::extends::MAX_NODES;
use super::nearest::did_you_mean;
use super::node::{Kind, Node};
use super::scope::Scope;

/// A block such as `$[[ inputs.x | truncate(0, 8) ]]`.
const START: &str = "$[[";
const END: &str = "]]";
/// `Gitlab::Ci::Config::Interpolation::Block::MAX_FUNCTIONS`.
const MAX_FUNCTIONS: usize = 3;

/// The inputs of one file, by name.
pub(super) struct Inputs {
    values: Vec<(String, Node)>,
    /// How much was filled in so far: a few large inputs in many places could fill the memory.
    filled: Cell<usize>,
}

impl Inputs {
    /// What the header `spec` declares, with what is `given`.
    pub fn read(header: &Node, given: &[(String, Node)], place: &Node) -> Result<Inputs, ReadError> {
        let spec = header.get("spec").ok_or_else(|| header.error("the first document should be a `spec:` header"))?;
        let declared = match spec.get("inputs") {
            Some(inputs) if !inputs.is_null() => inputs.entries("spec:inputs")?,
            _ => &[],
        };
        if let Kind::Map(entries) = &spec.kind
            && let Some((key, value)) =
                entries.iter().find(|(key, _)| !["inputs", "description", "component"].contains(&key.as_str()))
        {
            return Err(value.error(match key.as_str() {
                "include" => "`spec:include` reads inputs from elsewhere, which is not done here".to_owned(),
                _ => format!("`spec` knows no `{key}`{}", did_you_mean(key, ["inputs", "description"])),
            }));
        }
        for (name, value) in given {
            if !declared.iter().any(|(known, _)| known == name) {
                let near = did_you_mean(name, declared.iter().map(|(known, _)| known.as_str()));
                return Err(value.error(format!("there is no input `{name}` in `spec:inputs`{near}")));
            }
        }
        let value = |(name, specification): &(String, Node)| {
            let given = given.iter().find(|(known, _)| known == name).map(|(_, value)| value);
            Ok((name.clone(), input(name, specification, given, place)?))
        };
        declared
            .iter()
            .map(value)
            .collect::<Result<_, ReadError>>()
            .map(|values| Inputs { values, filled: Cell::new(0) })
    }

    /// `node` with every block replaced; keys, too.
    pub fn interpolate(&self, node: &Node, scope: &Scope<'_>) -> Result<Node, ReadError> {
        let kind = match &node.kind {
            Kind::List(items) => {
                Kind::List(items.iter().map(|item| self.interpolate(item, scope)).collect::<Result<_, _>>()?)
            }
            Kind::Map(entries) => {
                let mut replaced: Vec<(String, Node)> = Vec::with_capacity(entries.len());
                let mut seen = HashSet::new();
                for (key, value) in entries {
                    let key = match self.text(key, value, scope)? {
                        Some(node) => node.text("the key of a map")?,
                        None => key.clone(),
                    };
                    if !seen.insert(key.clone()) {
                        return Err(value.error(format!("with its inputs the key `{key}` is there twice")));
                    }
                    replaced.push((key, self.interpolate(value, scope)?));
                }
                Kind::Map(replaced)
            }
            Kind::Scalar { text, .. } => match self.text(text, node, scope)? {
                Some(value) => return Ok(value),
                None => node.kind.clone(),
            },
        };
        Ok(Node { file: node.file.clone(), line: node.line, tag: node.tag.clone(), kind })
    }

    /// The value of a text with blocks; a lone block keeps the type of its input.
    fn text(&self, text: &str, place: &Node, scope: &Scope<'_>) -> Result<Option<Node>, ReadError> {
        if !text.contains(START) {
            return Ok(None);
        }
        let mut whole = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(START) {
            let inside = &rest[at + START.len()..];
            let end = inside.find(END).ok_or_else(|| place.error(format!("`{rest}` has no `]]`")))?;
            let block = inside[..end].trim();
            let after = &inside[end + END.len()..];
            if block.starts_with("matrix.") {
                whole.push_str(&rest[..rest.len() - after.len()]);
            } else {
                let value = self.block(block, place, scope)?;
                if at == 0 && after.is_empty() && whole.is_empty() {
                    return Ok(Some(value));
                }
                whole.push_str(&rest[..at]);
                whole.push_str(&as_text(&value)?);
            }
            rest = after;
        }
        whole.push_str(rest);
        Ok(Some(place.with_text(whole)))
    }

    fn block(&self, block: &str, place: &Node, scope: &Scope<'_>) -> Result<Node, ReadError> {
        let mut parts = block.split('|').map(str::trim);
        let access = parts.next().unwrap_or_default();
        let unknown = || {
            let known: Vec<String> = self.values.iter().map(|(name, _)| format!("inputs.{name}")).collect();
            place.error(format!(
                "`$[[ {access} ]]` names no input{}",
                did_you_mean(access, known.iter().map(String::as_str))
            ))
        };
        let (name, key) = {
            let path = access.strip_prefix("inputs.").ok_or_else(unknown)?;
            path.split_once('.').map_or((path, None), |(name, key)| (name, Some(key)))
        };
        let mut value = &self.values.iter().find(|(known, _)| known == name).ok_or_else(unknown)?.1;
        for key in key.into_iter().flat_map(|key| key.split('.')) {
            value = value.get(key).ok_or_else(unknown)?;
        }
        self.filled.set(self.filled.get() + value.size());
        if self.filled.get() > MAX_NODES {
            return Err(place.error("the inputs expand to more than a pipeline can be"));
        }
        let mut value = Node { line: place.line, file: place.file.clone(), ..value.clone() };
        for (count, function) in parts.enumerate() {
            if count >= MAX_FUNCTIONS {
                return Err(place.error(format!("`$[[ {block} ]]` has more than {MAX_FUNCTIONS} functions")));
            }
            let text = as_text(&value)?;
            value = value.with_text(call(function, &text, scope).map_err(|what| place.error(what))?);
        }
        Ok(value)
    }
}

/// The value of one input, checked against what its specification says.
fn input(name: &str, specification: &Node, given: Option<&Node>, place: &Node) -> Result<Node, ReadError> {
    let wrong = |node: &Node, what: &str| node.error(format!("input `{name}` {what}"));
    let option = |key: &str| specification.get(key).filter(|value| !value.is_null());
    if let Kind::Map(entries) = &specification.kind {
        let known = ["default", "description", "options", "regex", "type"];
        if let Some((key, value)) = entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            return Err(wrong(value, &format!("has `{key}`, which is not done here{}", did_you_mean(key, known))));
        }
    } else if !specification.is_null() {
        return Err(wrong(specification, "should be a map with `default`, `type` and the like, or empty"));
    }
    let value = match given.or(specification.get("default")) {
        Some(value) => value,
        None => return Err(wrong(place, "has no default and is not given")),
    };
    let kind = option("type").map(|kind| kind.text("type")).transpose()?.unwrap_or_else(|| "string".to_owned());
    let value = &typed(value, &kind);
    let fits = match kind.as_str() {
        "string" => matches!(value.kind, Kind::Scalar { .. }),
        "number" => matches!(value.json(), serde_json::Value::Number(_)),
        "boolean" => value.is_boolean(),
        "array" => value.is_list(),
        _ => return Err(wrong(specification, "has a `type` that is not string, number, boolean or array")),
    };
    if !fits {
        return Err(wrong(value, &format!("should be of type {kind}")));
    }
    if let Some(options) = option("options") {
        let options = options.texts("options")?;
        if !options.contains(&as_text(value)?) {
            return Err(wrong(value, &format!("should be one of `{}`", options.join("`, `"))));
        }
    }
    if let Some(pattern) = option("regex") {
        let text = pattern.text("regex")?;
        let pattern = regex::RegexBuilder::new(&text).size_limit(1 << 20).build();
        let pattern = pattern.map_err(|_| wrong(specification, "has a `regex` that is none"))?;
        if !pattern.is_match(&as_text(value)?) {
            return Err(wrong(value, &format!("does not match `{text}`")));
        }
    }
    // A string stays one, however it looks.
    Ok(if kind == "string" && !value.is_null() { value.with_text(as_text(value)?) } else { value.clone() })
}

fn as_text(value: &Node) -> Result<String, ReadError> {
    match &value.kind {
        Kind::Scalar { .. } if value.is_null() => Ok(String::new()),
        Kind::Scalar { .. } => value.text("inputs"),
        _ => Ok(value.json().to_string()),
    }
}

fn call(function: &str, text: &str, scope: &Scope<'_>) -> Result<String, String> {
    match function {
        "expand_vars" => return Ok(scope.expand(text)),
        "posix_escape" => return Ok(posix_escape(text)),
        _ => {}
    }
    let numbers = function.strip_prefix("truncate(").and_then(|rest| rest.strip_suffix(')'));
    let numbers = numbers.and_then(|numbers| numbers.split_once(','));
    let numbers = numbers.and_then(|(start, length)| Some((start.trim().parse().ok()?, length.trim().parse().ok()?)));
    match numbers {
        Some((start, length)) => Ok(text.chars().skip(start).take(length).collect()),
        None => Err(format!(
            "`{function}` is no function of inputs: they are `expand_vars`, `truncate(start, length)`, `posix_escape`"
        )),
    }
}

/// Ruby's `Shellwords.escape`.
fn posix_escape(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("'\n'"),
            c if c.is_ascii_alphanumeric() || "_-.,:+/@".contains(c) => escaped.push(c),
            c => escaped.extend(['\\', c]),
        }
    }
    escaped
}

/// A value that somebody gave on a command line: what it is says the type of its input.
pub(super) fn given(nowhere: &Node, text: &str) -> Node {
    nowhere.with_text(text)
}

/// A text from the command line, which has no line, as the type of its input wants it.
fn typed(value: &Node, kind: &str) -> Node {
    match &value.kind {
        Kind::Scalar { text, plain: false } if value.line == 0 && ["number", "boolean"].contains(&kind) => {
            value.with(Kind::Scalar { text: text.clone(), plain: true })
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scope::Known;
    use super::super::yaml::compose;
    use super::*;

    fn interpolated(text: &str, given: &str) -> Result<serde_json::Value, String> {
        let documents = compose(text, None).map_err(|error| error.to_string())?;
        let Kind::Map(given) = compose(given, None).expect("YAML").remove(0).kind else { panic!("a map") };
        let known = Known::new(&[("NAME".to_owned(), "value".to_owned())], &[]);
        let scope = Scope { known: &known, file: &[] };
        let read = || Inputs::read(&documents[0], &given, &documents[1])?.interpolate(&documents[1], &scope);
        read().map(|node| node.json()).map_err(|error| error.to_string())
    }

    const HEADER: &str = "spec:\n  inputs:\n    stage: {default: test}\n    count: {type: number, default: 2}\n\
        \x20   os: {options: [linux, mac], default: linux}\n    all: {type: array, default: [a, b]}\n    name:\n---\n";

    #[test]
    fn blocks_are_replaced_and_lone_ones_keep_their_type() {
        let text = "$[[ inputs.name ]]-job:\n  stage: $[[ inputs.stage ]]\n  parallel: $[[inputs.count]]\n  \
            script: $[[ inputs.all ]]\n  tags: ['$[[ inputs.os ]]-$[[ inputs.count ]]', '$[[ inputs.name | truncate(1, 2) ]]', \
            '$[[ inputs.stage | expand_vars | posix_escape ]]', 'keep $[[ matrix.X ]]']\n";

        let json = interpolated(&format!("{HEADER}{text}"), "{name: app, stage: 'a $NAME'}").expect("it reads");

        let expected = json!({"stage": "a $NAME", "parallel": 2, "script": ["a", "b"],
            "tags": ["linux-2", "pp", "a\\ value", "keep $[[ matrix.X ]]"]});
        assert_eq!(json["app-job"], expected);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_input() {
        for (given, body, said) in [
            ("{}", "a: 1", "input `name` has no default and is not given"),
            ("{name: x, nmae: y}", "a: 1", "no input `nmae` in `spec:inputs`: did you mean `name`?"),
            ("{name: x, os: bsd}", "a: 1", "input `os` should be one of `linux`, `mac`"),
            ("{name: x, count: many}", "a: 1", "input `count` should be of type number"),
            ("{name: x}", "a: $[[ inputs.stag ]]", "names no input: did you mean `inputs.stage`?"),
            ("{name: x}", "a: $[[ inputs.name | upper ]]", "`upper` is no function of inputs"),
            ("{name: x}", "a: $[[ inputs.name", "has no `]]`"),
        ] {
            let error = interpolated(&format!("{HEADER}{body}\n"), given).expect_err(body);
            assert!(error.contains(said), "{given} {body}: {error}");
        }
    }
}
