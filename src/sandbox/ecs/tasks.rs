//! Owns the operations on tasks that are there already, and `DescribeClusters`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::definition_rules::given;
use super::json::{text, texts};
use super::paging::page;
use super::refusal::Refusal;
use super::state::{Shared, id_of};
use super::task::{Stamps, Status, StopCause, Wish};

/// `DescribeTasks`: at most 100, and what is not there is a `failure` in a 200 (aws.md §1.4, §1.5).
pub(super) fn describe(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    check_cluster(shared, request)?;
    let names: Vec<_> = texts(request, "tasks").collect();
    if names.is_empty() || names.len() > 100 {
        return Err(Refusal::parameter("tasks must name 1 to 100 tasks."));
    }
    let with_tags = texts(request, "include").any(|what| what == "TAGS");
    let all_missing = shared.faults.is_missing();
    let now = shared.now();
    let state = shared.state();
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        let found = state.task(name).filter(|task| !all_missing && task.is_visible(now));
        let Some(task) = found else {
            let arn = shared.options.arn(&format!("task/{}/{}", shared.options.cluster, id_of(name)));
            failures.push(json!({"arn": arn, "reason": "MISSING"}));
            continue;
        };
        let mut json = task.to_json(Stamps::Seconds);
        json["tags"] = if with_tags { task.tags.clone() } else { json!([]) };
        tasks.push(json);
    }
    Ok(json!({"tasks": tasks, "failures": failures}))
}

/// `ListTasks`: `startedBy` must be the only filter (aws.md §1.4).
pub(super) fn list_tasks(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    check_cluster(shared, request)?;
    for name in ["containerInstance", "serviceName", "daemonName"] {
        if given(request, name) {
            return Err(Refusal::parameter(format!("This sandbox has no services or instances to list by {name}.")));
        }
    }
    let filters = ["family", "desiredStatus", "launchType"];
    if given(request, "startedBy") && filters.iter().any(|name| given(request, name)) {
        return Err(Refusal::parameter("When you specify startedBy as the filter, it must be the only filter."));
    }
    let desired = text(request, "desiredStatus").unwrap_or("RUNNING");
    if !["RUNNING", "PENDING", "STOPPED"].contains(&desired) {
        return Err(Refusal::parameter("desiredStatus must be RUNNING, PENDING or STOPPED."));
    }
    let family = text(request, "family");
    let started_by = text(request, "startedBy");
    let is_fargate = text(request, "launchType").is_none_or(|launch_type| launch_type == "FARGATE");
    let state = shared.state();
    let mine = state.visible_tasks(shared.now()).filter(|(_, task)| {
        is_fargate
            && task.desired_status() == desired
            && family.is_none_or(|family| text(&task.definition, "family") == Some(family))
            && started_by.is_none_or(|by| task.started_by.as_deref() == Some(by))
    });
    page(request, "taskArns", mine.map(|(key, task)| (key, task.arn.clone())).collect())
}

/// `StopTask`: the reason becomes `stoppedReason`, and the task's tags go (aws.md §2.7).
pub(super) fn stop(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    check_cluster(shared, request)?;
    let name = text(request, "task").unwrap_or_default();
    let reason = text(request, "reason").unwrap_or("Task stopped by user");
    if reason.chars().count() > 1024 {
        return Err(Refusal::parameter("reason must be at most 1024 characters."));
    }
    let now = shared.now();
    let mut state = shared.state();
    if state.task(name).is_none_or(|task| !task.is_visible(now)) {
        return Err(Refusal::parameter("The referenced task was not found."));
    }
    let cause = StopCause { code: "UserInitiated", reason: reason.to_owned() };
    shared.stop(&mut state, name, cause, Wish::Stop);
    state.untag(name);
    let task = state.task(name).map(|task| task.to_json(Stamps::Seconds));
    Ok(json!({ "task": task }))
}

/// `DescribeClusters`: there is one.
pub(super) fn describe_clusters(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    let mut names: Vec<_> = texts(request, "clusters").collect();
    if names.is_empty() {
        names.push("default");
    }
    if names.len() > 100 {
        return Err(Refusal::parameter("clusters must name at most 100 clusters."));
    }
    let (ours, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_ours(shared, name));
    let state = shared.state();
    let count = |from: Status, to: Status| state.tasks().filter(|t| (from..=to).contains(&t.last_status)).count();
    let cluster = |_| {
        json!({
            "clusterArn": shared.options.cluster_arn(), "clusterName": shared.options.cluster, "status": "ACTIVE",
            "registeredContainerInstancesCount": 0, "activeServicesCount": 0, "statistics": [], "tags": [],
            "settings": [], "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
            "runningTasksCount": count(Status::Running, Status::Running),
            "pendingTasksCount": count(Status::Provisioning, Status::Activating),
            "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}],
        })
    };
    let clusters: Vec<_> = ours.into_iter().take(1).map(cluster).collect();
    let missing = |name| json!({"arn": shared.options.arn(&format!("cluster/{}", id_of(name))), "reason": "MISSING"});
    Ok(json!({"clusters": clusters, "failures": others.into_iter().map(missing).collect::<Vec<_>>()}))
}

/// Whether the request means our cluster; without a name it means `default`.
pub(super) fn check_cluster(shared: &Shared, request: &Value) -> Result<(), Refusal> {
    if is_ours(shared, text(request, "cluster").unwrap_or("default")) {
        return Ok(());
    }
    Err(Refusal::bad_request("ClusterNotFoundException", "Cluster not found."))
}

fn is_ours(shared: &Shared, name: &str) -> bool {
    name == shared.options.cluster || name == shared.options.cluster_arn()
}
