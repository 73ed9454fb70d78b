//! Owns the clauses that rules share: `if`, `changes`, `exists`.

use std::collections::HashSet;

use super::error::ReadError;
use super::expression::Expression;
use super::glob::Pattern;
use super::node::{Kind, Node};
use super::request::Tree;
use super::scope::Scope;

/// What must hold for a rule: all that it says.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    expression: Option<Expression>,
    changes: Option<Changes>,
    exists: Option<(Node, Vec<String>)>,
}

#[derive(Clone, Debug)]
struct Changes {
    node: Node,
    paths: Vec<String>,
    compare_to: Option<String>,
}

/// A tree that is asked often.
pub(super) struct Facts<'a> {
    pub tree: &'a Tree<'a>,
    paths: HashSet<&'a str>,
}

impl<'a> Facts<'a> {
    pub fn new(tree: &'a Tree<'a>) -> Self {
        Facts { tree, paths: tree.files.iter().map(|(path, _)| path.as_str()).collect() }
    }

    fn exists(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Exactly(path) => self.paths.contains(path.as_str()),
            Pattern::Glob(_) => self.tree.files.iter().any(|(path, _)| pattern.matches(path)),
        }
    }
}

impl Condition {
    /// Takes `value` if `key` is a clause; says whether it is.
    pub fn take(&mut self, key: &str, value: &Node) -> Result<bool, ReadError> {
        match key {
            _ if value.is_null() => return Ok(["if", "changes", "exists"].contains(&key)),
            "if" => self.expression = Some(expression(value, "if")?),
            "changes" => self.changes = Some(changes(value)?),
            "exists" => self.exists = Some((value.clone(), exists(value)?)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub fn holds(&self, scope: &Scope<'_>, facts: &Facts<'_>) -> Result<bool, ReadError> {
        if let Some(expression) = &self.expression
            && !expression.holds(&|name| scope.value(name))
        {
            return Ok(false);
        }
        if let Some(changes) = &self.changes
            && !changes.hold(scope, facts)?
        {
            return Ok(false);
        }
        match &self.exists {
            Some((node, paths)) => Ok(patterns(node, paths, scope)?.iter().any(|pattern| facts.exists(pattern))),
            None => Ok(true),
        }
    }
}

impl Changes {
    /// Where there is nothing to compare with, changes hold.
    fn hold(&self, scope: &Scope<'_>, facts: &Facts<'_>) -> Result<bool, ReadError> {
        let compared;
        let changed = match &self.compare_to {
            Some(reference) => {
                let reference = scope.expand(reference);
                let unknown = || self.node.error(format!("`changes:compare_to` names `{reference}`, which is no ref"));
                compared = (facts.tree.changed_since)(&reference).ok_or_else(unknown)?;
                &compared
            }
            None => match &facts.tree.changed {
                Some(changed) => changed,
                None => return Ok(true),
            },
        };
        let patterns = patterns(&self.node, &self.paths, scope)?;
        Ok(changed.iter().any(|path| patterns.iter().any(|pattern| pattern.matches(path))))
    }
}

/// An expression of the file.
pub(super) fn expression(node: &Node, keyword: &str) -> Result<Expression, ReadError> {
    let text = node.text(keyword)?;
    Expression::read(&text).map_err(|what| node.error(format!("`{keyword}: {text}`: {what}")))
}

fn patterns(node: &Node, paths: &[String], scope: &Scope<'_>) -> Result<Vec<Pattern>, ReadError> {
    let pattern = |path: &String| Pattern::new(&scope.expand(path)).map_err(|error| node.error(error.what));
    paths.iter().map(pattern).collect()
}

fn changes(node: &Node) -> Result<Changes, ReadError> {
    let (paths, compare_to) = match &node.kind {
        Kind::Map(_) => {
            let paths = node.get("paths").ok_or_else(|| node.error("`changes` needs `paths`"))?;
            let compare_to = node.get("compare_to").map(|value| value.text("changes:compare_to")).transpose()?;
            (paths.one_or_more("changes:paths")?, compare_to)
        }
        _ => (node.one_or_more("changes")?, None),
    };
    Ok(Changes { node: node.with_text(""), paths, compare_to })
}

fn exists(node: &Node) -> Result<Vec<String>, ReadError> {
    match &node.kind {
        Kind::Map(_) => {
            if let Some(project) = node.get("project") {
                return Err(project.error(
                    "`exists:project` looks into another project, which is not at hand here: only the repository itself is",
                ));
            }
            let paths = node.get("paths").ok_or_else(|| node.error("`exists` needs `paths`"))?;
            paths.one_or_more("exists:paths")
        }
        _ => node.one_or_more("exists"),
    }
}

/// `only:changes` and `except:changes`, which know no comparison.
pub(super) fn changed(node: &Node, scope: &Scope<'_>, facts: &Facts<'_>) -> Result<bool, ReadError> {
    changes(node)?.hold(scope, facts)
}
