//! Brings a configuration from its file to jobs in which everything stands that they inherit.

use serde_json::{Map, Value};

use super::condition::Facts;
use super::error::ReadError;
use super::include::Includes;
use super::keywords::{GLOBAL, INHERITABLE, TOP_LEVEL};
use super::nearest::did_you_mean;
use super::node::{Kind, Node};
use super::request::Request;
use super::scope::{Known, Scope};
use super::{extends, file, inputs, reference, schema};

/// The stages of a file that names none.
const STAGES: [&str; 3] = ["build", "test", "deploy"];

/// A configuration in which nothing is left to be looked up.
pub(super) struct Expanded {
    /// In order, `.pre` first and `.post` last.
    pub stages: Vec<String>,
    pub variables: Option<Node>,
    pub workflow: Option<Node>,
    /// The visible jobs in the order of the file.
    pub jobs: Vec<(String, Node)>,
}

/// The merged configuration as JSON in the shapes of the file: `stages`, `variables`, `workflow`, and every visible job
/// with all that it inherits. Rules and matrices stand as written.
///
/// # Errors
/// What is wrong in the file, with its line.
pub fn expanded(request: &Request<'_>) -> Result<Value, ReadError> {
    let (known, facts) = (Known::new(&request.variables, &request.settings), Facts::new(&request.tree));
    let expanded = expand(request, &known, &facts)?;
    let mut json = Map::new();
    json.insert("stages".to_owned(), expanded.stages.into());
    for (key, value) in [("variables", expanded.variables), ("workflow", expanded.workflow)] {
        if let Some(value) = value {
            json.insert(key.to_owned(), value.json());
        }
    }
    json.extend(expanded.jobs.iter().map(|(name, job)| (name.clone(), job.json())));
    Ok(Value::Object(json))
}

pub(super) fn expand(request: &Request<'_>, known: &Known, facts: &Facts<'_>) -> Result<Expanded, ReadError> {
    let text = (request.tree.read)(request.path)
        .ok_or_else(|| ReadError::at(0, format!("there is no file `{}`", request.path)))?;
    let nowhere = Node { file: None, line: 0, tag: None, kind: Kind::Scalar { text: String::new(), plain: false } };
    let given: Vec<(String, Node)> =
        request.inputs.iter().map(|(name, text)| (name.clone(), inputs::given(&nowhere, text))).collect();
    let scope = Scope { known, file: &[] };
    let document = file::load(&text, None, &given, &nowhere, &scope)?;
    let document = Includes { facts, scope, count: 0 }.merged(document)?;
    let mut document = without_empty(reference::resolve(extends::resolve(document)?)?);
    // The whole, as GitLab's server reads it: what a reference stands for is there now.
    schema::judge(&document)?;

    let mut stages = match document.take("stages") {
        Some(stages) if !stages.is_null() => stages.texts("stages")?,
        _ => STAGES.map(str::to_owned).to_vec(),
    };
    stages.retain(|stage| stage != ".pre" && stage != ".post");
    let stages = [vec![".pre".to_owned()], stages, vec![".post".to_owned()]].concat();
    let (variables, workflow) = (present(document.take("variables")), present(document.take("workflow")));
    let default = defaults(&mut document)?;
    let Kind::Map(entries) = document.kind else { return Err(ReadError::at(0, "the file should be a map")) };
    let mut jobs = Vec::new();
    for (name, job) in entries.into_iter().filter(|(name, _)| !name.starts_with('.')) {
        if !job.is_map() {
            let near = did_you_mean(&name, TOP_LEVEL.into_iter().chain(["stages"]));
            return Err(job.error(format!("`{name}` is no keyword, and as a job it should be a map{near}")));
        }
        let job = inherit(job, &default).map_err(|error| error.in_job(&name))?;
        jobs.push((name, job));
    }
    Ok(Expanded { stages, variables, workflow, jobs })
}

/// What jobs inherit: `default`, and the same keywords at the top of the file.
fn defaults(document: &mut Node) -> Result<Vec<(String, Node)>, ReadError> {
    let mut inherited = Vec::new();
    if let Some(default) = present(document.take("default")) {
        for (key, value) in default.entries("default")? {
            if !INHERITABLE.contains(&key.as_str()) {
                return Err(value.unknown_key("default", key, INHERITABLE));
            }
            inherited.push((key.clone(), value.clone()));
        }
    }
    for key in GLOBAL {
        let Some(value) = present(document.take(key)) else { continue };
        if inherited.iter().any(|(known, _)| known == key) {
            return Err(value.error(format!("`{key}` stands in `default`, too: keep one")));
        }
        inherited.push((key.to_owned(), value));
    }
    Ok(inherited)
}

/// A job's word replaces the default as a whole; `inherit:default` says which defaults reach it.
fn inherit(mut job: Node, defaults: &[(String, Node)]) -> Result<Node, ReadError> {
    let wanted = job.get("inherit").and_then(|inherit| inherit.get("default")).cloned();
    for (key, value) in defaults {
        // A trigger job runs nothing.
        if job.get("trigger").is_some() || job.get(key).is_some_and(|own| !own.is_null()) {
            continue;
        }
        let inherited = match &wanted {
            None => true,
            Some(wanted) if wanted.is_list() => wanted.texts("inherit:default")?.contains(key),
            Some(wanted) => wanted.boolean("inherit:default")?,
        };
        if inherited {
            job.set(key, value.clone());
        }
    }
    Ok(job)
}

/// A keyword that is empty takes away what `extends` brought, and is as if it were not there. A variable without a value is a mistake.
fn without_empty(mut document: Node) -> Node {
    fn prune(node: &mut Node) {
        match &mut node.kind {
            Kind::Map(entries) => {
                entries.retain(|(_, value)| !value.is_null());
                entries.iter_mut().filter(|(key, _)| key != "variables").for_each(|(_, value)| prune(value));
            }
            Kind::List(items) => items.iter_mut().for_each(prune),
            Kind::Scalar { .. } => {}
        }
    }
    if let Kind::Map(entries) = &mut document.kind {
        entries.iter_mut().filter(|(key, _)| key != "variables").for_each(|(_, value)| prune(value));
    }
    document
}

fn present(node: Option<Node>) -> Option<Node> {
    node.filter(|node| !node.is_null())
}
