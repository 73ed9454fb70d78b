//! Reads the task metadata endpoint: the task's times, its containers and what they use (aws.md §2.6).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The variable with the endpoint's URL, which Fargate sets in every container.
const ENDPOINT: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// How long an answer may take; the endpoint is on this machine.
const ANSWER: Duration = Duration::from_secs(2);
/// More than this is not read. The figures of nine containers have some 20 KiB.
const LARGEST_ANSWER: usize = 1 << 20;

/// One container of our task.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Container {
    /// Its name in the task definition.
    pub(super) name: String,
    /// The key of its figures.
    docker_id: Option<String>,
    started_at: Option<String>,
    /// Once it has ended.
    pub(super) exit_code: Option<i64>,
}

/// Our task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Task {
    pub(super) containers: Vec<Container>,
    pull_started_at: Option<String>,
    pull_stopped_at: Option<String>,
    ephemeral_storage_metrics: Value,
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
        time(self.pull_started_at.as_ref())
    }

    /// When the last image was there.
    pub(super) fn pull_stopped(&self) -> Option<Timestamp> {
        time(self.pull_stopped_at.as_ref())
    }

    /// When the last of the containers `names` started.
    pub(super) fn started(&self, names: &[&str]) -> Option<Timestamp> {
        let of = self.containers.iter().filter(|container| names.contains(&container.name.as_str()));
        of.filter_map(|container| time(container.started_at.as_ref())).max()
    }

    /// MiB of the task's disk that are used.
    pub(super) fn disk_mib(&self) -> u64 {
        number(&self.ephemeral_storage_metrics, "/Utilized")
    }
}

/// The containers of our task; none without an answer, which is no reason to fail a job.
pub(super) async fn containers() -> Vec<Container> {
    task().await.map(|task| task.containers).unwrap_or_default()
}

/// Our task; `None` without an answer.
pub(super) async fn task() -> Option<Task> {
    get("task").await
}

/// What each running container of `task` has used, by its name; `None` without an answer.
pub(super) async fn used(task: &Task) -> Option<BTreeMap<String, Used>> {
    let all: Value = get("task/stats").await?;
    let used = task.containers.iter().filter_map(|container| {
        let stats = all.get(container.docker_id.as_deref()?).filter(|stats| stats.is_object())?;
        Some((container.name.clone(), Used::read(stats)))
    });
    Some(used.collect())
}

impl Used {
    /// Reads what Docker's statistics say of one container; the two generations of cgroups have a name each.
    fn read(stats: &Value) -> Used {
        let inactive = ["inactive_file", "total_inactive_file"];
        let inactive = inactive.map(|name| number(stats, &format!("/memory_stats/stats/{name}")));
        let memory = number(stats, "/memory_stats/usage");
        let inactive = inactive.into_iter().max().unwrap_or_default();
        Used { cpu_ns: number(stats, "/cpu_stats/cpu_usage/total_usage"), memory: memory.saturating_sub(inactive) }
    }
}

fn number(json: &Value, place: &str) -> u64 {
    json.pointer(place).and_then(Value::as_u64).unwrap_or_default()
}

fn time(text: Option<&String>) -> Option<Timestamp> {
    text?.parse().ok()
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
    use serde_json::json;

    #[test]
    fn odd_and_missing_fields_spoil_no_answer() {
        let text = r#"{"Containers": [{"Name": "build", "DockerId": "a", "StartedAt": "2026-04-01T10:00:05Z", "Odd": 1},
            {"Name": "svc-0", "ExitCode": 3}], "PullStartedAt": "soon", "EphemeralStorageMetrics": null, "PullStoppedAt": "2026-04-01T10:00:04Z"}"#;
        let task: Task = serde_json::from_str(text).unwrap();
        assert_eq!((task.pull_started(), task.disk_mib()), (None, 0));
        assert_eq!(task.pull_stopped(), "2026-04-01T10:00:04Z".parse().ok());
        assert_eq!(task.started(&["helper", "build"]), "2026-04-01T10:00:05Z".parse().ok());
        assert_eq!(task.containers[1].exit_code, Some(3));
    }

    #[test]
    fn memory_is_counted_without_what_the_kernel_would_give_up() {
        for (stats, cpu_ns, memory) in [
            (
                json!({"cpu_stats": {"cpu_usage": {"total_usage": 7}}, "memory_stats": {"usage": 100, "stats": null}}),
                7,
                100,
            ),
            (json!({"cpu_stats": {}, "memory_stats": {"usage": 100, "stats": {"inactive_file": 30}}}), 0, 70),
            (json!({"memory_stats": {"usage": 100, "stats": {"total_inactive_file": 130}}}), 0, 0),
        ] {
            assert_eq!(Used::read(&stats), Used { cpu_ns, memory }, "{stats}");
        }
    }
}
