//! Asks Fargate how the task and its containers are (aws.md §2.6).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Where Fargate tells every container who answers.
const ENDPOINT: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// It is on this machine.
const ANSWER: Duration = Duration::from_secs(2);
/// Nine containers take some 20 KiB.
const LARGEST_ANSWER: usize = 1 << 20;

/// One container of our task.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Container {
    /// Its name in the task definition.
    pub(super) name: String,
    /// The key of its figures.
    docker_id: String,
    started_at: String,
    /// Once it has ended.
    pub(super) exit_code: Option<i64>,
}

/// Our task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Task {
    pub(super) containers: Vec<Container>,
    pull_started_at: String,
    pull_stopped_at: String,
    ephemeral_storage_metrics: Storage,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Storage {
    utilized: u64,
}

/// What a container has used, as Docker counts it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStats {
    cpu_stats: CpuStats,
    memory_stats: MemoryStats,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct CpuStats {
    cpu_usage: CpuUsage,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryStats {
    usage: u64,
    stats: MemoryDetail,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryDetail {
    inactive_file: u64,
    total_inactive_file: u64,
}

/// What a container has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Nanoseconds of CPU.
    pub(super) cpu_ns: u64,
    /// Bytes, without what the kernel would give up at once.
    pub(super) memory: u64,
}

impl Task {
    /// When the first image's pull began: Fargate's bill begins there.
    pub(super) fn pull_started(&self) -> Option<Timestamp> {
        self.pull_started_at.parse().ok()
    }

    /// When the last image was there.
    pub(super) fn pull_stopped(&self) -> Option<Timestamp> {
        self.pull_stopped_at.parse().ok()
    }

    /// When the last of the containers `names` started.
    pub(super) fn started(&self, names: &[&str]) -> Option<Timestamp> {
        let of = self.containers.iter().filter(|container| names.contains(&container.name.as_str()));
        of.filter_map(|container| container.started_at.parse().ok()).max()
    }

    /// MiB of the task's disk that are used.
    pub(super) fn disk_mib(&self) -> u64 {
        self.ephemeral_storage_metrics.utilized
    }
}

/// The containers of our task; nothing where nobody answers, which is no reason to fail a job.
pub(super) async fn containers() -> Vec<Container> {
    task().await.map(|task| task.containers).unwrap_or_default()
}

/// Our task; `None` where nobody answers.
pub(super) async fn task() -> Option<Task> {
    get("task").await
}

/// What each running container of `task` has used, by its name; `None` where nobody answers.
pub(super) async fn used(task: &Task) -> Option<BTreeMap<String, Used>> {
    let mut all: BTreeMap<String, Option<ContainerStats>> = get("task/stats").await?;
    let used = task.containers.iter().filter_map(|container| {
        let stats = all.remove(&container.docker_id).flatten()?;
        let memory = stats.memory_stats;
        let inactive = memory.stats.inactive_file.max(memory.stats.total_inactive_file);
        let memory = memory.usage.saturating_sub(inactive);
        Some((container.name.clone(), Used { cpu_ns: stats.cpu_stats.cpu_usage.total_usage, memory }))
    });
    Some(used.collect())
}

async fn get<T: DeserializeOwned>(what: &str) -> Option<T> {
    let endpoint = std::env::var(ENDPOINT).ok()?;
    let asked = tokio::time::timeout(ANSWER, ask(&format!("{endpoint}/{what}"))).await;
    let body = match asked {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the task metadata endpoint does not answer");
            return None;
        }
        Err(_) => {
            tracing::warn!("the task metadata endpoint does not answer within {ANSWER:?}");
            return None;
        }
    };
    serde_json::from_slice(&body).map_err(|error| tracing::warn!(%error, "odd task metadata")).ok()
}

async fn ask(url: &str) -> reqwest::Result<Vec<u8>> {
    // Its own client: this is no server that the job's certificates are for.
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let mut response = http.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_and_missing_fields_spoil_no_answer() {
        let text = r#"{"Containers": [{"Name": "build", "DockerId": "a", "StartedAt": "2026-04-01T10:00:05Z", "Odd": 1},
            {"Name": "svc-0", "ExitCode": 3}], "PullStartedAt": "soon", "PullStoppedAt": "2026-04-01T10:00:04Z"}"#;
        let task: Task = serde_json::from_str(text).unwrap();
        assert_eq!((task.pull_started(), task.disk_mib()), (None, 0));
        assert_eq!(task.pull_stopped(), "2026-04-01T10:00:04Z".parse().ok());
        assert_eq!(task.started(&["helper", "build"]), "2026-04-01T10:00:05Z".parse().ok());
        assert_eq!(task.containers[1].exit_code, Some(3));
    }
}
