//! Owns `RunTask` (aws.md §1.5): what it checks, client tokens, quotas, and `failures` in a 200.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::definition_rules::{check_tags, given};
use super::definitions::Definition;
use super::json::{is_name, list, number, text};
use super::lifecycle;
use super::override_rules;
use super::providers;
use super::refusal::Refusal;
use super::size::Size;
use super::state::{Shared, State, Token};
use super::task::{Launch, Stamps, Task};
use super::tasks::check_cluster;

const NO_CAPACITY: &str =
    "Capacity is unavailable at this time. Please try again later or in a different availability zone";
/// With U+2019, as ECS writes it.
const NO_VCPUS: &str = "You’ve reached the limit on the number of vCPUs you can run concurrently";
/// A client token lives for this long at most.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// And for this long after the last of its tasks stopped.
const TOKEN_OUTLIVES_TASK: SignedDuration = SignedDuration::from_hours(1);

/// `RunTask`.
pub(super) fn run(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    check_cluster(shared, request)?;
    check_form(request)?;
    let mut state = shared.state();
    if let Some(answer) = answer_from_token(shared, &mut state, request)? {
        return Ok(answer);
    }
    let definition = find_definition(&state, request)?;
    let overrides = request.get("overrides").unwrap_or(&Value::Null);
    let size = override_rules::check(overrides, &definition.json)?;
    check_execute_command(request, &definition.json)?;
    let count = number(request, "count").unwrap_or(1);
    let providers = providers::choose(request, usize::try_from(count).unwrap_or(1))?;

    let no_capacity = shared.faults.no_capacity();
    let (mut started, mut failures) = (Vec::new(), Vec::new());
    for provider in providers {
        let is_spot = provider.as_deref() == Some("FARGATE_SPOT");
        let reason = if no_capacity {
            Some(NO_CAPACITY)
        } else {
            exceeds_quota(shared, &state, size, is_spot).then_some(NO_VCPUS)
        };
        if let Some(reason) = reason {
            failures.push(json!({ "reason": reason }));
            continue;
        }
        if !state.buckets.launch(is_spot, shared.faults.launches(), shared.now()) {
            if started.is_empty() {
                return Err(Refusal::throttled());
            }
            break;
        }
        let task = Task::new(Launch {
            definition: definition.json.clone(),
            definition_tags: &definition.tags,
            request,
            size,
            provider,
            cluster_arn: shared.options.cluster_arn(),
            now: shared.now(),
        });
        started.push(task.arn.clone());
        shared.add(&mut state, task);
    }
    remember_token(shared, &mut state, request, &started);
    let answer = answer(&state, &started, &failures);
    drop(state);
    started.into_iter().for_each(|arn| lifecycle::start(shared, arn));
    Ok(answer)
}

fn check_form(request: &Value) -> Result<(), Refusal> {
    if !(1..=10).contains(&number(request, "count").unwrap_or(1)) {
        return Err(Refusal::parameter("count must be 1 to 10."));
    }
    if text(request, "startedBy").is_some_and(|by| !is_name(by, 128, "-/_")) {
        return Err(Refusal::parameter("startedBy must be 1 to 128 letters, digits, -, / and _."));
    }
    if text(request, "group").is_some_and(|group| group.len() > 255 || group.starts_with("service:")) {
        return Err(Refusal::parameter("Invalid group."));
    }
    if text(request, "clientToken")
        .is_some_and(|token| token.len() > 64 || !token.bytes().all(|b| b.is_ascii_graphic()))
    {
        return Err(Refusal::parameter("clientToken must be at most 64 characters of ASCII 33 to 126."));
    }
    if text(request, "propagateTags").is_some_and(|from| !["TASK_DEFINITION", "NONE"].contains(&from)) {
        return Err(Refusal::parameter("propagateTags must be TASK_DEFINITION or NONE when running a task."));
    }
    for name in ["placementConstraints", "placementStrategy"] {
        if given(request, name) {
            return Err(Refusal::parameter(format!("{name} is not supported with Fargate.")));
        }
    }
    if given(request, "volumeConfigurations") {
        return Err(Refusal::client("This sandbox has no EBS volumes: volumeConfigurations must be left out."));
    }
    if text(request, "platformVersion").is_some_and(|version| !["LATEST", "1.4.0"].contains(&version)) {
        return Err(Refusal::bad_request("PlatformUnknownException", "The platform version does not exist."));
    }
    check_tags(request)?;
    check_network(request)
}

fn check_network(request: &Value) -> Result<(), Refusal> {
    let network = &request["networkConfiguration"]["awsvpcConfiguration"];
    if network.is_null() {
        return Err(Refusal::parameter(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ));
    }
    if !(1..=16).contains(&list(network, "subnets").len()) {
        return Err(Refusal::parameter("subnets must name 1 to 16 subnets."));
    }
    if list(network, "securityGroups").len() > 5 {
        return Err(Refusal::parameter("securityGroups must name at most 5 security groups."));
    }
    if text(network, "assignPublicIp").is_some_and(|ip| !["ENABLED", "DISABLED"].contains(&ip)) {
        return Err(Refusal::parameter("assignPublicIp must be ENABLED or DISABLED."));
    }
    Ok(())
}

fn check_execute_command(request: &Value, definition: &Value) -> Result<(), Refusal> {
    let has_role = given(&request["overrides"], "taskRoleArn") || given(definition, "taskRoleArn");
    if given(request, "enableExecuteCommand") && !has_role {
        return Err(Refusal::parameter(
            "The task couldn't be run because a valid taskRoleArn is not being used: enableExecuteCommand needs one.",
        ));
    }
    Ok(())
}

/// What the token's first call started, if it still lives; a Conflict if that call asked for something else.
fn answer_from_token(shared: &Shared, state: &mut State, request: &Value) -> Result<Option<Value>, Refusal> {
    let Some(token) = text(request, "clientToken") else { return Ok(None) };
    let now = shared.now();
    let Some(known) = state.tokens.get(token) else { return Ok(None) };
    if !token_lives(state, known, now) {
        state.tokens.remove(token);
        return Ok(None);
    }
    if known.request != without_token(request) {
        return Err(Refusal::conflict(known.arns.clone()));
    }
    Ok(Some(answer(state, &known.arns, &[])))
}

fn token_lives(state: &State, token: &Token, now: Timestamp) -> bool {
    let stopped_long_ago = |arn: &String| {
        let stopped = state.task(arn).and_then(|task| task.times.stopped);
        stopped.is_some_and(|at| now.duration_since(at) >= TOKEN_OUTLIVES_TASK)
    };
    now.duration_since(token.since) < TOKEN_LIFE && !token.arns.iter().all(stopped_long_ago)
}

/// A call that started nothing leaves its token free: the retry is to find new capacity.
fn remember_token(shared: &Shared, state: &mut State, request: &Value, arns: &[String]) {
    if let Some(token) = text(request, "clientToken").filter(|_| !arns.is_empty()) {
        let known = Token { request: without_token(request), arns: arns.to_vec(), since: shared.now() };
        state.tokens.insert(token.to_owned(), known);
    }
}

fn without_token(request: &Value) -> Value {
    let mut request = request.clone();
    if let Some(members) = request.as_object_mut() {
        members.retain(|name, value| name != "clientToken" && !value.is_null());
    }
    request
}

fn find_definition(state: &State, request: &Value) -> Result<Definition, Refusal> {
    let name = text(request, "taskDefinition").unwrap_or_default();
    let found = state.definitions.find(name).ok_or_else(|| Refusal::client("TaskDefinition not found."))?;
    if found.status() != "ACTIVE" {
        return Err(Refusal::client("TaskDefinition is inactive"));
    }
    Ok(found.clone())
}

/// On-Demand and Spot are counted apart (aws.md §1.4).
fn exceeds_quota(shared: &Shared, state: &State, size: Size, is_spot: bool) -> bool {
    state.cpu_units(is_spot) + u64::from(size.cpu) > u64::from(shared.faults.vcpus(is_spot)) * 1024
}

fn answer(state: &State, arns: &[String], failures: &[Value]) -> Value {
    let tasks: Vec<_> = arns
        .iter()
        .filter_map(|arn| state.task(arn))
        .map(|task| {
            let mut json = task.to_json(Stamps::Seconds);
            json["tags"] = task.tags.clone();
            json
        })
        .collect();
    json!({"tasks": tasks, "failures": failures})
}
