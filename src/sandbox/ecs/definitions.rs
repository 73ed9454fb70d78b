//! Owns the task definitions: families, their revisions, and what becomes of them (aws.md §2.1).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::definition_rules;
use super::json::{list, text, texts};
use super::paging::page;
use super::refusal::Refusal;
use super::size::Size;
use super::state::Shared;
use super::task::{Stamps, Status, stamp};

/// All families of one account.
#[derive(Default)]
pub(super) struct Definitions {
    families: BTreeMap<String, Family>,
}

#[derive(Default)]
struct Family {
    /// The number of the last revision; it is never used again, not even after a deletion.
    last: u32,
    revisions: BTreeMap<u32, Definition>,
}

/// One revision.
#[derive(Clone)]
pub(super) struct Definition {
    pub(super) json: Arc<Value>,
    pub(super) tags: Value,
}

impl Definition {
    pub(super) fn status(&self) -> &str {
        text(&self.json, "status").unwrap_or_default()
    }

    pub(super) fn arn(&self) -> &str {
        text(&self.json, "taskDefinitionArn").unwrap_or_default()
    }

    fn set(&mut self, status: &str, moment: &str, now: Timestamp) {
        let json = Arc::make_mut(&mut self.json);
        json["status"] = json!(status);
        json[moment] = stamp(now, Stamps::Seconds);
    }
}

impl Definitions {
    /// The revision that `name` means: an ARN, `family:revision`, or a family for its latest ACTIVE one.
    pub(super) fn find(&self, name: &str) -> Option<&Definition> {
        match split(name)? {
            (family, Some(revision)) => self.families.get(family)?.revisions.get(&revision),
            (family, None) => self.families.get(family)?.revisions.values().rev().find(|d| d.status() == "ACTIVE"),
        }
    }

    /// Every revision that has not been deleted.
    pub(super) fn all(&self) -> impl Iterator<Item = &Definition> {
        self.families.values().flat_map(|family| family.revisions.values())
    }

    fn find_exact(&mut self, name: &str) -> Option<&mut Definition> {
        let (family, revision) = split(name)?;
        self.families.get_mut(family)?.revisions.get_mut(&revision?)
    }
}

/// `RegisterTaskDefinition`: always a new revision, even of an identical definition (aws.md §2.1).
pub(super) fn register(shared: &Shared, request: &Value) -> Result<Value, Refusal> {
    definition_rules::check(request)?;
    let mut state = shared.state();
    let name = text(request, "family").unwrap_or_default();
    let family = state.definitions.families.entry(name.to_owned()).or_default();
    family.last += 1;
    let arn = shared.options.arn(&format!("task-definition/{name}:{}", family.last));
    let mut json = normalised(request)?;
    json["taskDefinitionArn"] = json!(arn);
    json["revision"] = json!(family.last);
    json["status"] = json!("ACTIVE");
    json["compatibilities"] = json!(["EC2", "FARGATE"]);
    json["requiresAttributes"] = json!([]);
    json["registeredAt"] = stamp(shared.now(), Stamps::Seconds);
    json["registeredBy"] = json!(format!("arn:aws:iam::{}:user/sandbox", shared.options.account));
    let definition = Definition { json: Arc::new(json), tags: Value::Array(list(request, "tags").to_vec()) };
    family.revisions.insert(family.last, definition.clone());
    Ok(json!({"taskDefinition": *definition.json, "tags": definition.tags}))
}

/// `DescribeTaskDefinition`.
pub(super) fn describe(shared: &Shared, request: &Value) -> Result<Value, Refusal> {
    let state = shared.state();
    let found = state.definitions.find(text(request, "taskDefinition").unwrap_or_default());
    let found = found.ok_or_else(|| Refusal::client("Unable to describe task definition."))?;
    let mut answer = json!({"taskDefinition": *found.json});
    if texts(request, "include").any(|what| what == "TAGS") {
        answer["tags"] = found.tags.clone();
    }
    Ok(answer)
}

/// `ListTaskDefinitions`: `familyPrefix` is a whole family name here.
pub(super) fn list_all(shared: &Shared, request: &Value) -> Result<Value, Refusal> {
    let status = text(request, "status").unwrap_or("ACTIVE");
    let family = text(request, "familyPrefix");
    let state = shared.state();
    let families = state.definitions.families.iter().filter(|(name, _)| family.is_none_or(|family| family == *name));
    let items = families.flat_map(|(name, family)| {
        let mine = family.revisions.iter().filter(|(_, definition)| definition.status() == status);
        mine.map(move |(revision, definition)| (format!("{name}:{revision:010}"), definition.arn().to_owned()))
    });
    page(request, "taskDefinitionArns", items.collect())
}

/// `ListTaskDefinitionFamilies`.
pub(super) fn list_families(shared: &Shared, request: &Value) -> Result<Value, Refusal> {
    let prefix = text(request, "familyPrefix").unwrap_or_default();
    let status = text(request, "status").unwrap_or("ALL");
    if !["ACTIVE", "INACTIVE", "ALL"].contains(&status) {
        return Err(Refusal::parameter("status must be ACTIVE, INACTIVE or ALL."));
    }
    let state = shared.state();
    let fits = |family: &Family| {
        let active = family.revisions.values().any(|definition| definition.status() == "ACTIVE");
        status == "ALL" || active == (status == "ACTIVE")
    };
    let families = state.definitions.families.iter().filter(|(name, family)| name.starts_with(prefix) && fits(family));
    page(request, "families", families.map(|(name, _)| (name.clone(), name.clone())).collect())
}

/// `DeregisterTaskDefinition`: it can still be described, and no task can start from it.
pub(super) fn deregister(shared: &Shared, request: &Value) -> Result<Value, Refusal> {
    let name = text(request, "taskDefinition").unwrap_or_default();
    let now = shared.now();
    let mut state = shared.state();
    let found = state.definitions.find_exact(name);
    let found = found.ok_or_else(|| {
        Refusal::client(format!("Unable to find task definition `{name}`: give its family and revision."))
    })?;
    if found.status() == "ACTIVE" {
        found.set("INACTIVE", "deregisteredAt", now);
    }
    Ok(json!({"taskDefinition": *found.json}))
}

/// `DeleteTaskDefinitions`: INACTIVE ones only; they go once no task uses them.
pub(super) fn delete(shared: &Shared, request: &Value) -> Result<Value, Refusal> {
    let names: Vec<_> = texts(request, "taskDefinitions").collect();
    if names.is_empty() || names.len() > 10 {
        return Err(Refusal::parameter("taskDefinitions must name 1 to 10 task definitions."));
    }
    let now = shared.now();
    let mut state = shared.state();
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        let Some(found) = state.definitions.find_exact(name) else {
            failures.push(json!({"arn": name, "reason": "TASK_DEFINITION_NOT_FOUND"}));
            continue;
        };
        if found.status() == "ACTIVE" {
            let detail =
                "The specified task definition is still in ACTIVE status. Please deregister the target and try again.";
            failures.push(json!({"arn": found.arn(), "reason": "TASK_DEFINITION_ACTIVE", "detail": detail}));
            continue;
        }
        found.set("DELETE_IN_PROGRESS", "deleteRequestedAt", now);
        let json = found.json.clone();
        deleted.push((*json).clone());
        let used = state.tasks().any(|task| task.last_status != Status::Stopped && same(&task.definition, &json));
        if !used && let Some((family, Some(revision))) = split(name) {
            state.definitions.families.get_mut(family).and_then(|family| family.revisions.remove(&revision));
        }
    }
    Ok(json!({"taskDefinitions": deleted, "failures": failures}))
}

fn same(one: &Value, other: &Value) -> bool {
    text(one, "taskDefinitionArn") == text(other, "taskDefinitionArn")
}

/// Family and revision of an ARN, of `family:revision` or of `family`.
fn split(name: &str) -> Option<(&str, Option<u32>)> {
    let name = match name.strip_prefix("arn:") {
        Some(rest) => rest.split_once(":task-definition/")?.1,
        None => name,
    };
    match name.split_once(':') {
        Some((family, revision)) => Some((family, Some(revision.parse().ok()?))),
        None => Some((name, None)),
    }
}

/// The definition with the defaults that ECS writes into what it describes.
fn normalised(request: &Value) -> Result<Value, Refusal> {
    let mut json = request.clone();
    let size = Size::parse(text(request, "cpu"), text(request, "memory"))?;
    json["cpu"] = json!(size.cpu.to_string());
    json["memory"] = json!(size.memory.to_string());
    let Some(members) = json.as_object_mut() else { return Ok(json) };
    members.remove("tags");
    members.retain(|_, value| !value.is_null());
    for name in ["volumes", "placementConstraints"] {
        members.entry(name).or_insert_with(|| json!([]));
    }
    let containers = members.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        container.retain(|_, value| !value.is_null());
        container.entry("cpu").or_insert_with(|| json!(0));
        container.entry("essential").or_insert_with(|| json!(true));
        for name in ["portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"] {
            container.entry(name).or_insert_with(|| json!([]));
        }
    }
    Ok(json)
}
