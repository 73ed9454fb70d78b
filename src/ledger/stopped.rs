//! Owns what we know of a stopped task, and reads it from ECS' events (aws.md §3).

use serde::{Deserialize, Serialize};

/// A task that has stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTask {
    /// Its ARN.
    pub task: String,
    /// Names its job and attempt.
    pub started_by: String,
    /// For example `EssentialContainerExited`; new ones may come.
    pub stop_code: Option<String>,
    /// ECS' words.
    pub stopped_reason: String,
    /// How its containers ended.
    pub containers: Vec<StoppedContainer>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedContainer {
    /// Its name.
    pub name: String,
    /// Absent when it never ran.
    pub exit_code: Option<i32>,
    /// ECS' words.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "detail-type")]
    detail_type: String,
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    task_arn: String,
    last_status: String,
    #[serde(default)]
    started_by: String,
    stop_code: Option<String>,
    #[serde(default)]
    stopped_reason: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    name: String,
    exit_code: Option<i32>,
    reason: Option<String>,
}

impl StoppedTask {
    /// The container called `name`.
    pub fn container(&self, name: &str) -> Option<&StoppedContainer> {
        self.containers.iter().find(|container| container.name == name)
    }
}

/// Reads an EventBridge event; `None` unless it says that a task has stopped.
///
/// A task stops once, so a doubled or late event says the same and needs no version.
pub fn read_event(event: &serde_json::Value) -> Option<StoppedTask> {
    let event: Event = Event::deserialize(event).ok()?;
    if event.detail_type != "ECS Task State Change" || event.detail.last_status != "STOPPED" {
        return None;
    }
    let detail = event.detail;
    let container = |c: Container| StoppedContainer { name: c.name, exit_code: c.exit_code, reason: c.reason };
    Some(StoppedTask {
        task: detail.task_arn,
        started_by: detail.started_by,
        stop_code: detail.stop_code,
        stopped_reason: detail.stopped_reason,
        containers: detail.containers.into_iter().map(container).collect(),
    })
}
