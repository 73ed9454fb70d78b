//! Owns `only` and `except`: refs, variables and changes, as they were before `rules`.

use regex::Regex;

use super::condition::{Facts, changed, expression};
use super::error::ReadError;
use super::expression::{Expression, pattern_length, regex};
use super::node::{Kind, Node};
use super::scope::Scope;

/// What a job runs for, or does not.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    refs: Option<Vec<Reference>>,
    variables: Option<Vec<Expression>>,
    changes: Option<Node>,
    kubernetes: bool,
}

/// One entry of `refs`, perhaps for one project only.
#[derive(Clone, Debug)]
struct Reference {
    pattern: Pattern,
    project: Option<String>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Word(String),
    Regex(Regex),
}

impl Policy {
    /// What holds for a job that says nothing: branches and tags.
    pub fn branches_and_tags() -> Policy {
        let word = |word: &str| Reference { pattern: Pattern::Word(word.to_owned()), project: None };
        Policy { refs: Some(vec![word("branches"), word("tags")]), ..Policy::default() }
    }

    pub fn read(node: &Node, keyword: &str) -> Result<Policy, ReadError> {
        let mut policy = Policy::default();
        if !node.is_map() {
            policy.refs = Some(references(node, keyword)?);
            return Ok(policy);
        }
        for (key, value) in node.entries(keyword)? {
            match key.as_str() {
                _ if value.is_null() => {}
                "refs" => policy.refs = Some(references(value, keyword)?),
                "variables" => {
                    let items = value.flat_items(keyword)?;
                    let items = items.into_iter().map(|item| expression(item, &format!("{keyword}:variables")));
                    policy.variables = Some(items.collect::<Result<_, _>>()?);
                }
                "changes" => policy.changes = Some(value.clone()),
                "kubernetes" => policy.kubernetes = true,
                _ => return Err(value.error(format!("`{keyword}` knows no `{key}`"))),
            }
        }
        Ok(policy)
    }

    /// Whether a job with this `only` runs: everything that it says holds. Nobody's cluster is here.
    pub fn allows(&self, scope: &Scope<'_>, facts: &Facts<'_>) -> Result<bool, ReadError> {
        Ok(!self.kubernetes && self.clauses(scope, facts)?.into_iter().flatten().all(|clause| clause))
    }

    /// Whether a job with this `except` is left out: anything that it says holds.
    pub fn excludes(&self, scope: &Scope<'_>, facts: &Facts<'_>) -> Result<bool, ReadError> {
        Ok(self.clauses(scope, facts)?.into_iter().flatten().any(|clause| clause))
    }

    fn clauses(&self, scope: &Scope<'_>, facts: &Facts<'_>) -> Result<[Option<bool>; 3], ReadError> {
        let event = |reference: &Reference| reference.matches(scope);
        let held = |expression: &Expression| expression.holds(&|name| scope.value(name));
        Ok([
            self.refs.as_ref().map(|refs| refs.iter().any(event)),
            self.variables.as_ref().map(|variables| variables.iter().any(held)),
            self.changes.as_ref().map(|changes| changed(changes, scope, facts)).transpose()?,
        ])
    }
}

impl Reference {
    fn matches(&self, scope: &Scope<'_>) -> bool {
        let known = |name: &str| scope.known.predefined(name).unwrap_or_default();
        if self.project.as_deref().is_some_and(|project| project != known("CI_PROJECT_PATH")) {
            return false;
        }
        let source = known("CI_PIPELINE_SOURCE");
        let of_merge_request = source == "merge_request_event";
        let (branch, tag) = (known("CI_COMMIT_BRANCH"), known("CI_COMMIT_TAG"));
        match &self.pattern {
            Pattern::Regex(pattern) => !of_merge_request && pattern.is_match(known("CI_COMMIT_REF_NAME")),
            Pattern::Word(word) => match word.as_str() {
                "branches" => !of_merge_request && !branch.is_empty(),
                "tags" => !tag.is_empty(),
                "merge_requests" => of_merge_request,
                "pushes" => source == "push",
                "triggers" => source == "trigger",
                "schedules" => source == "schedule",
                "pipelines" => matches!(source, "pipeline" | "parent_pipeline"),
                "external" | "web" | "api" | "chat" | "webide" => source == word,
                "external_pull_requests" => source == "external_pull_request_event",
                name => !of_merge_request && name == known("CI_COMMIT_REF_NAME"),
            },
        }
    }
}

fn references(node: &Node, keyword: &str) -> Result<Vec<Reference>, ReadError> {
    let items = match &node.kind {
        Kind::Scalar { .. } => vec![node],
        _ => node.flat_items(keyword)?,
    };
    items.into_iter().map(|item| reference(item, keyword)).collect()
}

fn reference(node: &Node, keyword: &str) -> Result<Reference, ReadError> {
    let text = node.text(keyword)?;
    if text.starts_with('/')
        && let Some(length) = pattern_length(&text)
        && (length == text.len() || text[length..].starts_with('@'))
    {
        let pattern = regex(&text[..length]).map_err(|what| node.error(format!("`{keyword}`: {what}")))?;
        let project = text[length..].strip_prefix('@').map(str::to_owned);
        return Ok(Reference { pattern: Pattern::Regex(pattern), project });
    }
    let (name, project) = text.split_once('@').map_or((text.as_str(), None), |(name, project)| (name, Some(project)));
    Ok(Reference { pattern: Pattern::Word(name.to_owned()), project: project.map(str::to_owned) })
}
