//! Asks Fargate how the task's containers are (aws.md §2.6).

use std::time::Duration;

use serde::Deserialize;

/// Where Fargate tells every container who answers.
const ENDPOINT: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// It is on this machine.
const ANSWER: Duration = Duration::from_secs(2);

/// One container of our task.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    /// Its name in the task definition.
    pub(super) name: String,
    /// Once it has ended.
    #[serde(default)]
    pub(super) exit_code: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    containers: Vec<Container>,
}

/// The containers of our task; nothing where nobody answers, which is no reason to fail a job.
pub(super) async fn containers() -> Vec<Container> {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return Vec::new() };
    match ask(&endpoint).await {
        Ok(task) => task.containers,
        Err(error) => {
            tracing::warn!(%error, "the task metadata endpoint does not answer");
            Vec::new()
        }
    }
}

async fn ask(endpoint: &str) -> reqwest::Result<Task> {
    // Its own client: this is no server that the job's certificates are for.
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(ANSWER).build()?;
    http.get(format!("{endpoint}/task")).send().await?.error_for_status()?.json().await
}
