//! Starts the three servers that are not ours: S3, ECS, GitLab.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::clock::Clock;
use super::ecs::{self, Callers, Ecs, Runtime};
use super::gitlab::{self, GitLab};
use super::s3::{self, S3};
use super::stack::environment_files;
use super::traffic::Traffic;
use super::{aws, fleet};

/// Where a task's containers have their builds.
const BUILDS: &str = "/builds";

/// GitLab, ECS and S3 on one clock.
pub(super) struct World {
    pub(super) gitlab: GitLab,
    pub(super) ecs: Ecs,
    pub(super) s3: S3,
    pub(super) ecs_events: UnboundedReceiver<Value>,
}

impl World {
    /// Starts them below `root`, which must be short: sockets lie beneath it. The cache may lie elsewhere, and builds be
    /// seen there.
    pub(super) async fn start(
        root: &Path,
        clock: &Clock,
        traffic: &Traffic,
        runtime: Runtime,
        launch_key: &str,
        (cache, builds): (Option<PathBuf>, Option<PathBuf>),
    ) -> io::Result<World> {
        let buckets = [fleet::LEDGER, fleet::CACHE, fleet::AGENTS].map(str::to_owned).to_vec();
        let s3 = S3::start(s3::Options {
            clock: None,
            traffic: traffic.clone(),
            root: root.join("s3"),
            buckets,
            elsewhere: cache.map(|root| (fleet::CACHE.to_owned(), root)).into_iter().collect(),
            access_key: aws::ACCESS_KEY.into(),
            secret_key: aws::SECRET_KEY.into(),
            unlisting_key: Some(aws::UNLISTING_KEY.into()),
        })
        .await?;
        let (events, ecs_events) = unbounded_channel();
        let ecs = Ecs::start(ecs::Options {
            clock: clock.clone(),
            traffic: traffic.clone(),
            region: aws::REGION.into(),
            cluster: fleet::CLUSTER.into(),
            callers: Callers::Key(aws::ACCESS_KEY.into()),
            places: builds.map(|place| (BUILDS.to_owned(), place)).into_iter().collect(),
            secrets: HashMap::from([(fleet::LAUNCH_KEY_ARN.to_owned(), launch_key.to_owned())]),
            fetch_s3: environment_files(aws::s3(s3.url(), "execution-role")),
            runtime,
            ..ecs::Options::new(root.join("t"), events)
        })
        .await?;
        let gitlab = GitLab::start(gitlab::Options { clock: clock.clone(), traffic: traffic.clone(), port: 0 }).await?;
        Ok(World { gitlab, ecs, s3, ecs_events })
    }
}
