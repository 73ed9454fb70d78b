//! Judges a file by GitLab's own CI schema (`schema/gitlab-ci.json`), and says what is wrong in people's words.
//!
//! The schema is the one of GitLab's editor, MIT licensed (`schema/LICENSE`), as check-jsonschema 0.39.0 ships it.

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::error::ReadError;
use super::keywords::TOP_LEVEL;
use super::nearest::did_you_mean;
use super::node::{Kind, Node};

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schema/gitlab-ci.json")).expect("the schema is JSON"));
static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::options().build(&SCHEMA).expect("the schema is a schema"));

/// Refuses what GitLab's schema refuses, with the line and the nearest keyword.
pub(super) fn judge(document: &Node) -> Result<(), ReadError> {
    let json = for_schema(document.json());
    if VALIDATOR.is_valid(&json) {
        return Ok(());
    }
    let complaint = |error: &ValidationError<'_>| complaint(document, error);
    let complaints = VALIDATOR.iter_errors(&json).map(|error| complaint(&error));
    Err(complaints.min_by_key(|error| error.line).unwrap_or_else(|| document.error("GitLab's schema refuses the file")))
}

/// GitLab takes lists in lists up to ten levels deep, as references leave them, its editor's schema does not: here they
/// are in one row.
fn for_schema(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut flat = Vec::with_capacity(items.len());
            flatten(items, &mut flat);
            Value::Array(flat)
        }
        Value::Object(entries) => {
            Value::Object(entries.into_iter().map(|(key, value)| (key, for_schema(value))).collect())
        }
        other => other,
    }
}

fn flatten(items: Vec<Value>, flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::Array(inner) => flatten(inner, flat),
            other => flat.push(for_schema(other)),
        }
    }
}

/// The keywords of a job.
pub(super) fn job_keywords() -> impl Iterator<Item = &'static str> {
    let keywords = SCHEMA["definitions"]["job_template"]["properties"].as_object();
    keywords.into_iter().flat_map(|keywords| keywords.keys().map(String::as_str))
}

/// One complaint of the schema in our words.
fn complaint(document: &Node, error: &ValidationError<'_>) -> ReadError {
    let whole = error;
    let error = sharpest(error);
    let path = segments(error.instance_path().as_str());
    let node = find(document, &path);
    let keyword = keyword(&path);
    let (node, what) = match error.kind() {
        // The one choice that the schema has for a whole job.
        _ if is_choice_of_a_job(whole) => {
            let node = find(document, &path[..1]);
            match (node.get("start_in"), node.get("when")) {
                (Some(start_in), _) => (start_in, "`start_in` goes with `when: delayed` only".to_owned()),
                (None, when) => (when.unwrap_or(node), "`when: delayed` needs a `start_in`".to_owned()),
            }
        }
        // What has a colon is a map to YAML.
        _ if keyword.ends_with("script") && first_map(node).is_some() => {
            let what = format!("`{keyword}` should be a text or a list of texts: quote a line that has `: ` in it");
            (first_map(node).unwrap_or(node), what)
        }
        // A job that is no map is a misspelt keyword, or a keyword in the place of a job.
        ValidationErrorKind::Type { .. } if path.len() == 1 && !TOP_LEVEL.contains(&path[0].as_str()) => (
            node,
            format!("`{keyword}` is no keyword, and as a job it should be a map{}", did_you_mean(&path[0], TOP_LEVEL)),
        ),
        ValidationErrorKind::AdditionalProperties { .. } if is_misspelt_keyword(node, &path) => {
            let near = did_you_mean(&path[0], TOP_LEVEL);
            (node, format!("`{}` is no keyword, and as a job it has no `script`{near}", path[0]))
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let unknown = unexpected.first().map(String::as_str).unwrap_or_default();
            let known = allowed(error.schema_path().as_str());
            let near = did_you_mean(unknown, known.iter().map(String::as_str));
            let place = if keyword.is_empty() { "the file".to_owned() } else { format!("`{keyword}`") };
            let what = match path.len() {
                1 if !TOP_LEVEL.contains(&path[0].as_str()) => format!("`{unknown}` is no keyword of a job{near}"),
                _ => format!("{place} knows no `{unknown}`{near}"),
            };
            (node.get(unknown).unwrap_or(node), what)
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            (node, one_of(&keyword, node, &options(whole, error.instance_path().as_str())))
        }
        ValidationErrorKind::Type { kind } => (node, format!("`{keyword}` should be {}", type_names(kind))),
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            match misspelt(node, property) {
                Some((key, value)) => (value, format!("`{keyword}` knows no `{key}`: did you mean `{property}`?")),
                None => (node, format!("`{keyword}` needs `{property}`")),
            }
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MinLength { .. } => {
            (node, format!("`{keyword}` should not be empty"))
        }
        ValidationErrorKind::Maximum { limit } => (node, format!("`{keyword}` should be {limit} at most")),
        ValidationErrorKind::Minimum { limit } => (node, format!("`{keyword}` should be {limit} at least")),
        ValidationErrorKind::MaxItems { limit } => (node, format!("`{keyword}` should have {limit} items at most")),
        ValidationErrorKind::UniqueItems => (node, format!("`{keyword}` has an item twice")),
        ValidationErrorKind::Pattern { pattern } => (node, format!("`{keyword}` should match `{pattern}`")),
        ValidationErrorKind::AnyOf { .. }
        | ValidationErrorKind::OneOfNotValid { .. }
        | ValidationErrorKind::OneOfMultipleValid { .. } => {
            (node, format!("`{keyword}` has none of the shapes that GitLab knows for it"))
        }
        _ => (node, format!("`{keyword}` is not as GitLab's schema wants it ({})", error.kind().keyword())),
    };
    let error = node.error(what);
    match path.first() {
        Some(job) if !TOP_LEVEL.contains(&job.as_str()) => error.in_job(job),
        _ => error,
    }
}

fn is_choice_of_a_job(error: &ValidationError<'_>) -> bool {
    segments(error.instance_path().as_str()).len() == 1
        && matches!(error.kind(), ValidationErrorKind::OneOfNotValid { .. })
}

/// A map at the top whose name is nearly a keyword, and which is nothing like a job.
fn is_misspelt_keyword(node: &Node, path: &[String]) -> bool {
    let is_job = ["script", "extends", "trigger", "run"].iter().any(|key| node.get(key).is_some());
    path.len() == 1
        && !is_job
        && !TOP_LEVEL.contains(&path[0].as_str())
        && !did_you_mean(&path[0], TOP_LEVEL).is_empty()
}

fn first_map(node: &Node) -> Option<&Node> {
    match &node.kind {
        Kind::Map(_) => Some(node),
        Kind::List(items) => items.iter().find_map(first_map),
        Kind::Scalar { .. } => None,
    }
}

/// The key of a map that was probably meant to be `property`.
fn misspelt<'a>(node: &'a Node, property: &str) -> Option<(&'a str, &'a Node)> {
    let Kind::Map(entries) = &node.kind else { return None };
    let near = entries.iter().find(|(key, _)| !did_you_mean(key, [property]).is_empty())?;
    Some((&near.0, &near.1))
}

/// Of several branches that fail, the one that goes furthest tells most.
fn sharpest<'a, 'e>(error: &'a ValidationError<'e>) -> &'a ValidationError<'e> {
    let branches: &Vec<Vec<ValidationError<'static>>> = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => context,
        _ => return error,
    };
    let depth = |error: &ValidationError<'_>| segments(error.instance_path().as_str()).len();
    let own = depth(error);
    let telling = |error: &&ValidationError<'static>| {
        // A branch for another type says nothing about this value.
        !(depth(error) == own && matches!(error.kind(), ValidationErrorKind::Type { .. }))
    };
    let firsts = branches.iter().filter(|branch| branch.iter().all(|error| telling(&error)));
    let best = firsts.filter_map(|branch| branch.iter().map(sharpest).max_by_key(|error| depth(error)));
    best.max_by_key(|error| depth(error)).map_or(error, |best| shorter(best))
}

/// Lets a `'static` error pass for one of any lifetime.
fn shorter<'a, 'e>(error: &'a ValidationError<'static>) -> &'a ValidationError<'e> {
    error
}

fn segments(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect()
}

/// The deepest node on the way that is there.
fn find<'a>(document: &'a Node, path: &[String]) -> &'a Node {
    let mut node = document;
    for segment in path {
        let next = match &node.kind {
            Kind::Map(_) => node.get(segment),
            Kind::List(items) => segment.parse::<usize>().ok().and_then(|at| items.get(at)),
            Kind::Scalar { .. } => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// `artifacts:reports` for `/job/artifacts/reports/0`.
fn keyword(path: &[String]) -> String {
    let in_job = path.first().is_some_and(|first| !TOP_LEVEL.contains(&first.as_str())) && path.len() > 1;
    let words = path.iter().skip(usize::from(in_job)).filter(|segment| segment.parse::<usize>().is_err());
    words.map(String::as_str).collect::<Vec<_>>().join(":")
}

/// The keys that the schema allows where it found another one.
fn allowed(schema_path: &str) -> Vec<String> {
    let mut place = &*SCHEMA;
    let mut known = Vec::new();
    for segment in segments(schema_path) {
        known = keys(place);
        let next = match place.get(&segment) {
            Some(next) => next,
            None => match segment.parse::<usize>().ok().and_then(|at| place.get(at)) {
                Some(next) => next,
                None => break,
            },
        };
        place = match (segment.as_str(), next.as_str()) {
            ("$ref", Some(reference)) => match SCHEMA.pointer(reference.trim_start_matches('#')) {
                Some(target) => target,
                None => break,
            },
            _ => next,
        };
    }
    known
}

fn keys(schema: &Value) -> Vec<String> {
    schema["properties"].as_object().map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// Every word that some branch would take at `place`.
fn options(error: &ValidationError<'_>, place: &str) -> Vec<String> {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words: Vec<String> = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context.iter().flatten().flat_map(|error| options(error, place)).collect()
        }
        _ if error.instance_path().as_str() != place => Vec::new(),
        ValidationErrorKind::Enum { options } => options.as_array().into_iter().flatten().map(word).collect(),
        ValidationErrorKind::Constant { expected_value } => vec![word(expected_value)],
        _ => Vec::new(),
    };
    let mut seen = std::collections::HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    words
}

fn one_of(keyword: &str, node: &Node, options: &[String]) -> String {
    let said = match &node.kind {
        Kind::Scalar { text, .. } => text.as_str(),
        _ => return format!("`{keyword}` should be one of `{}`", options.join("`, `")),
    };
    let near = did_you_mean(said, options.iter().map(String::as_str));
    format!("`{keyword}` should be one of `{}`, not `{said}`{near}", options.join("`, `"))
}

fn type_names(kind: &TypeKind) -> String {
    let name = |kind: &str| match kind {
        "array" => "a list".to_owned(),
        "object" => "a map".to_owned(),
        "integer" => "a whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "null" => "empty".to_owned(),
        other => format!("a {other}"),
    };
    match kind {
        TypeKind::Single(kind) => name(kind.as_str()),
        TypeKind::Multiple(kinds) => kinds.iter().map(|kind| name(kind.as_str())).collect::<Vec<_>>().join(" or "),
    }
}
