//! Resolves `!reference [job, key, …]` (GitLab: at most 10 levels deep).

use super::error::ReadError;
use super::extends::MAX_NODES;
use super::nearest::did_you_mean;
use super::node::{Kind, Node, TEXT_OF_A_NODE};

/// `Gitlab::Ci::Config::Yaml::Tags::Resolver`'s bound.
const MAX_LEVELS: usize = 10;

/// The file with what they refer to in the place of all references.
pub(super) fn resolve(root: Node) -> Result<Node, ReadError> {
    let mut resolver = Resolver { root: &root, nodes: 0 };
    resolver.node(&root, 0)
}

struct Resolver<'a> {
    root: &'a Node,
    nodes: usize,
}

impl Resolver<'_> {
    fn node(&mut self, node: &Node, level: usize) -> Result<Node, ReadError> {
        if node.tag.as_deref() == Some("!reference") {
            return self.reference(node, level);
        }
        self.nodes += match &node.kind {
            Kind::Scalar { .. } => node.size(),
            Kind::List(_) => 1,
            Kind::Map(entries) => 1 + entries.iter().map(|(key, _)| key.len() / TEXT_OF_A_NODE).sum::<usize>(),
        };
        if self.nodes > MAX_NODES {
            return Err(node.error("the references expand to more than a pipeline can be"));
        }
        let kind = match &node.kind {
            Kind::List(items) => Kind::List(items.iter().map(|item| self.node(item, level)).collect::<Result<_, _>>()?),
            Kind::Map(entries) => {
                let entry = |(key, value): &(String, Node)| Ok((key.clone(), self.node(value, level)?));
                Kind::Map(entries.iter().map(entry).collect::<Result<_, ReadError>>()?)
            }
            scalar @ Kind::Scalar { .. } => scalar.clone(),
        };
        Ok(Node { file: node.file.clone(), line: node.line, tag: node.tag.clone(), kind })
    }

    fn reference(&mut self, node: &Node, level: usize) -> Result<Node, ReadError> {
        let path: Vec<String> = match &node.kind {
            Kind::List(items) if !items.is_empty() => {
                items.iter().map(|item| item.text("!reference")).collect::<Result<_, _>>()?
            }
            _ => return Err(node.error("`!reference` should be a list of keys, such as `!reference [.setup, script]`")),
        };
        let written = format!("!reference [{}]", path.join(", "));
        if level >= MAX_LEVELS {
            return Err(node.error(format!("`{written}` goes in a circle, or through more than {MAX_LEVELS} levels")));
        }
        let mut target = self.root;
        for key in &path {
            target = match target.get(key) {
                Some(value) => value,
                None => {
                    let known = match &target.kind {
                        Kind::Map(entries) => entries.iter().map(|(key, _)| key.as_str()).collect(),
                        _ => Vec::new(),
                    };
                    let near = did_you_mean(key, known);
                    return Err(node.error(format!("`{written}` finds no `{key}`{near}")));
                }
            };
        }
        let found = self.node(target, level + 1)?;
        Ok(Node { line: node.line, file: node.file.clone(), ..found })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::yaml::compose;
    use super::*;

    fn resolved(text: &str) -> Result<serde_json::Value, String> {
        let root = compose(text, None).map_err(|error| error.to_string())?.remove(0);
        resolve(root).map(|node| node.json()).map_err(|error| error.to_string())
    }

    #[test]
    fn references_are_replaced_through_other_references() {
        let json = resolved(
            ".a: {script: [one]}\n.b: {script: [!reference [.a, script], two], variables: {X: {value: x}}}\n\
             job: {script: [!reference [.b, script], three], variables: {Y: !reference [.b, variables, X, value]}}\n",
        );

        let expected = json!({"script": [[["one"], "two"], "three"], "variables": {"Y": "x"}});
        assert_eq!(json.expect("it resolves")["job"], expected);
    }

    #[test]
    fn what_leads_nowhere_or_in_a_circle_is_refused() {
        assert_eq!(
            resolved(".a: {script: x}\nb:\n  script: !reference [.a, scirpt]\n").expect_err("unknown"),
            "line 3: `!reference [.a, scirpt]` finds no `scirpt`: did you mean `script`?"
        );
        assert!(resolved("a: {script: !reference [a, script]}\n").expect_err("a circle").contains("circle"));
    }
}
