//! Owns the task metadata endpoint, version 4, as Fargate has it (aws.md §2.6).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::json::text;
use super::state::Shared;
use super::task::{Container, Stamps, Task, stamp};

/// The routes of `$ECS_CONTAINER_METADATA_URI_V4` for all containers.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v4/{id}", get(|state, id| answer(state, id, container_json)))
        .route("/v4/{id}/task", get(|state, id| answer(state, id, |shared, task, _| task_json(shared, task))))
        .route("/v4/{id}/stats", get(|state, id| answer(state, id, |shared, _, container| stats(shared, container))))
        .route("/v4/{id}/task/stats", get(|state, id| answer(state, id, |shared, task, _| task_stats(shared, task))))
        .with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    write: fn(&Shared, &Task, &Container) -> Value,
) -> Response {
    let task_id = id.split('-').next().unwrap_or_default();
    let json = shared.look(task_id, |task| {
        let container = task.containers.iter().find(|container| container.metadata_id == id)?;
        Some(write(&shared, task, container))
    });
    match json.flatten() {
        Some(json) => Json(json).into_response(),
        None => (StatusCode::NOT_FOUND, format!("V4 metadata handler: unable to find `{id}`")).into_response(),
    }
}

fn task_json(shared: &Shared, task: &Task) -> Value {
    let times = &task.times;
    let mut json = json!({
        "Cluster": shared.options.cluster_arn(), "TaskARN": task.arn, "Family": task.definition["family"],
        "Revision": task.definition["revision"].to_string(), "DesiredStatus": task.desired_status(),
        "KnownStatus": task.last_status.name(), "AvailabilityZone": "sandbox-1a", "LaunchType": "FARGATE",
        "Limits": {"CPU": f64::from(task.size.cpu) / 1024.0, "Memory": task.size.memory},
        "EphemeralStorageMetrics": {"Utilized": 0, "Reserved": task.storage() * 1024},
        "ClockDrift": {"ClockErrorBound": 0.5, "ReferenceTimestamp": stamp(shared.now(), Stamps::Text),
            "ClockSynchronizationStatus": "SYNCHRONIZED"},
        "FaultInjectionEnabled": false,
        "Containers": task.containers.iter().map(|c| container_json(shared, task, c)).collect::<Vec<_>>(),
    });
    let moments = [
        ("PullStartedAt", times.pull_started),
        ("PullStoppedAt", times.pull_stopped),
        ("ExecutionStoppedAt", times.execution_stopped),
    ];
    for (name, time) in moments.into_iter().filter_map(|(name, time)| Some((name, time?))) {
        json[name] = stamp(time, Stamps::Text);
    }
    json
}

fn container_json(shared: &Shared, task: &Task, container: &Container) -> Value {
    let (definition, _) = task.container_definition(&container.name);
    let family = text(&task.definition, "family").unwrap_or_default();
    let mut labels = json!({
        "com.amazonaws.ecs.cluster": shared.options.cluster_arn(),
        "com.amazonaws.ecs.container-name": container.name,
        "com.amazonaws.ecs.task-arn": task.arn,
        "com.amazonaws.ecs.task-definition-family": family,
        "com.amazonaws.ecs.task-definition-version": task.definition["revision"].to_string(),
    });
    for (name, value) in definition.get("dockerLabels").and_then(Value::as_object).into_iter().flatten() {
        labels[name] = value.clone();
    }
    let mut json = json!({
        "DockerId": container.runtime_id, "Name": container.name, "DockerName": container.name,
        "Image": container.image, "ImageID": "", "Labels": labels, "DesiredStatus": task.desired_status(),
        "KnownStatus": container.last_status,
        "Limits": {"CPU": container.cpu, "Memory": container.memory.unwrap_or(i64::from(task.size.memory))},
        "Type": "NORMAL", "ContainerARN": container.arn, "Snapshotter": "overlayfs", "RestartCount": 0,
        "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [task.private_ip()], "AttachmentIndex": 0}],
    });
    if let Some(code) = container.exit_code {
        json["ExitCode"] = json!(code);
    }
    let moments = [
        ("CreatedAt", container.created_at),
        ("StartedAt", container.started_at),
        ("FinishedAt", container.finished_at),
    ];
    for (name, time) in moments.into_iter().filter_map(|(name, time)| Some((name, time?))) {
        json[name] = stamp(time, Stamps::Text);
    }
    json
}

/// What a process says of itself stands in /proc; the endpoint counts nothing here.
fn stats(shared: &Shared, container: &Container) -> Value {
    json!({
        "read": stamp(shared.now(), Stamps::Text), "name": container.name, "id": container.runtime_id,
        "num_procs": 0, "pids_stats": {}, "networks": {},
        "cpu_stats": {"cpu_usage": {"total_usage": 0}, "online_cpus": 1}, "memory_stats": {"usage": 0},
    })
}

fn task_stats(shared: &Shared, task: &Task) -> Value {
    let running = task.containers.iter().filter(|container| container.last_status == "RUNNING");
    running.map(|container| (container.runtime_id.clone(), stats(shared, container))).collect()
}
