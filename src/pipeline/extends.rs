//! Resolves `extends`: every job is its parents, in order, with its own keys on top (GitLab: at most eleven levels).

use std::collections::HashMap;

use super::error::ReadError;
use super::merge::deep_merge;
use super::nearest::did_you_mean;
use super::node::{Kind, Node};

/// "Up to eleven levels" (docs.gitlab.com/ci/yaml/#extends).
const MAX_LEVELS: usize = 11;
/// What one file may come to; merged parents could otherwise fill the memory.
pub(super) const MAX_NODES: usize = 500_000;

/// The file with every `extends` gone.
pub(super) fn resolve(root: Node) -> Result<Node, ReadError> {
    let Node { file, line, tag, kind: Kind::Map(entries) } = root else { return Ok(root) };
    let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
    let mut resolver =
        Resolver { jobs: entries.into_iter().collect(), done: HashMap::new(), open: Vec::new(), nodes: 0 };
    let mut resolved = Vec::new();
    for name in names {
        let (node, _) = resolver.job(&name)?;
        resolved.push((name, node));
    }
    Ok(Node { file, line, tag, kind: Kind::Map(resolved) })
}

struct Resolver {
    jobs: HashMap<String, Node>,
    /// What is resolved, and over how many levels.
    done: HashMap<String, (Node, usize)>,
    open: Vec<String>,
    nodes: usize,
}

impl Resolver {
    fn job(&mut self, name: &str) -> Result<(Node, usize), ReadError> {
        if let Some(done) = self.done.get(name) {
            return Ok(done.clone());
        }
        let mut own = self.jobs[name].clone();
        let Some(extends) = own.take("extends") else {
            return Ok((own, 0));
        };
        let wrong = |what: String| extends.error(what).in_job(name);
        if self.open.iter().any(|open| open == name) {
            let circle = [self.open.as_slice(), &[name.to_owned()]].concat().join("` → `");
            return Err(wrong(format!("`extends` goes in a circle: `{circle}`")));
        }
        // However the file is ordered, nobody goes deeper than he may.
        if self.open.len() > MAX_LEVELS {
            return Err(wrong(format!("`extends` goes through more than {MAX_LEVELS} levels")));
        }
        self.open.push(name.to_owned());
        let (mut merged, mut levels): (Option<Node>, usize) = (None, 0);
        for parent in extends.one_or_more("extends").map_err(|error| error.in_job(name))? {
            let known = self.jobs.get(&parent).is_some_and(Node::is_map);
            if !known {
                let names = self.jobs.iter().filter(|(_, node)| node.is_map()).map(|(name, _)| name.as_str());
                return Err(wrong(format!(
                    "`extends` names `{parent}`, which is no job{}",
                    did_you_mean(&parent, names)
                )));
            }
            let (parent, beneath) = self.job(&parent)?;
            levels = levels.max(beneath + 1);
            self.nodes += parent.size();
            if levels > MAX_LEVELS {
                return Err(wrong(format!("`extends` goes through more than {MAX_LEVELS} levels")));
            }
            if self.nodes > MAX_NODES {
                return Err(wrong("the file expands to more than a pipeline can be".to_owned()));
            }
            merged = Some(match merged {
                Some(merged) => deep_merge(merged, parent),
                None => parent,
            });
        }
        self.open.pop();
        let line = own.line;
        let mut merged = match merged {
            Some(merged) => deep_merge(merged, own),
            None => own,
        };
        merged.line = line;
        self.done.insert(name.to_owned(), (merged.clone(), levels));
        Ok((merged, levels))
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
    fn parents_come_in_order_and_the_job_itself_last() {
        let json = resolved(
            ".a: {image: a, variables: {X: 1, Y: 1}, script: [a]}\n.b: {extends: .a, variables: {Y: 2}}\n\
             .c: {image: c}\njob: {extends: [.b, .c], script: [own]}\n",
        );

        let expected = json!({"image": "c", "variables": {"X": 1, "Y": 2}, "script": ["own"]});
        assert_eq!(json.expect("it resolves")["job"], expected);
    }

    #[test]
    fn a_circle_and_an_unknown_parent_are_refused() {
        assert_eq!(
            resolved("a: {extends: b}\nb: {extends: a}\n").expect_err("a circle"),
            "job `a`, line 1: `extends` goes in a circle: `a` → `b` → `a`"
        );
        assert_eq!(
            resolved(".base: {script: x}\na:\n  extends: .bas\n").expect_err("unknown"),
            "job `a`, line 3: `extends` names `.bas`, which is no job: did you mean `.base`?"
        );
    }
}
