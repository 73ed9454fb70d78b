//! Owns the task metadata endpoint, version 4, as Fargate has it (aws.md §2.6).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::family::{Used, used};
use super::json::text;
use super::state::Shared;
use super::task::{Container, Stamps, Task, stamp};

/// The routes of `$ECS_CONTAINER_METADATA_URI_V4` for all containers.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v4/{id}", get(|state, id| answer(state, id, container_json)))
        .route("/v4/{id}/task", get(|state, id| answer(state, id, |shared, task, _| task_json(shared, task))))
        .route("/v4/{id}/stats", get(|state, id| stats(state, id, false)))
        .route("/v4/{id}/task/stats", get(|state, id| stats(state, id, true)))
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

/// What one container has used, or each that runs of its task.
async fn stats(State(shared): State<Arc<Shared>>, Path(id): Path<String>, of_task: bool) -> Response {
    let task_id = id.split('-').next().unwrap_or_default();
    let task = shared.look(task_id, Task::clone);
    let Some(task) = task.filter(|task| task.containers.iter().any(|container| container.metadata_id == id)) else {
        return (StatusCode::NOT_FOUND, format!("V4 metadata handler: unable to find `{id}`")).into_response();
    };
    let running = shared.host.of_task(&task);
    // Outside of the state's lock: all processes of this machine are looked at.
    let used = used(&running.iter().map(|(_, running)| running.pid).collect::<Vec<_>>());
    let all = running.iter().zip(used).filter_map(|((name, _), used)| {
        let container = task.containers.iter().find(|container| container.name == *name)?;
        Some((container, container_stats(&shared, container, used)))
    });
    match of_task {
        true => {
            Json(all.map(|(container, json)| (container.runtime_id.clone(), json)).collect::<Value>()).into_response()
        }
        false => {
            let mut own = all.filter(|(container, _)| container.metadata_id == id);
            Json(own.next().map_or(Value::Null, |(_, json)| json)).into_response()
        }
    }
}

fn container_stats(shared: &Shared, container: &Container, used: Used) -> Value {
    json!({
        "read": stamp(shared.now(), Stamps::Text), "name": container.name, "id": container.runtime_id,
        "num_procs": 0, "pids_stats": {}, "networks": {},
        "cpu_stats": {"cpu_usage": {"total_usage": used.nanoseconds}, "online_cpus": 1},
        "memory_stats": {"usage": used.memory, "stats": {}},
    })
}
