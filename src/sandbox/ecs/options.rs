//! Owns what a sandbox ECS is started with.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use super::access::Callers;
use super::simulated::Simulate;
use crate::sandbox::clock::Clock;
use crate::sandbox::traffic::Traffic;

/// Reads the S3 object that an ARN names, as the execution role would.
pub type FetchS3 = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<u8>>> + Send + Sync>;

/// Reads the secret that an ARN names, as the execution role would; `None` if there is none.
pub type FetchSecret = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Option<String>>> + Send + Sync>;

/// Replaces a value in a container's environment, such as a URL that only AWS resolves.
pub type Place = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a task is made of.
#[derive(Clone)]
pub enum Runtime {
    /// Real child processes, one a container.
    Processes,
    /// Real containers of podman or Docker, made of the registered definition; needs root, to listen in their network.
    Containers {
        /// Tasks reach more than this machine's servers.
        internet: bool,
    },
    /// No process: a closure says how long each task runs and how it ends.
    Simulated(Simulate),
}

/// How to start an [`Ecs`](super::Ecs).
#[derive(Clone)]
pub struct Options {
    /// The time that everybody agrees on.
    pub clock: Clock,
    /// Where requests are counted, as `ecs` and `metadata`.
    pub traffic: Traffic,
    /// The region in all ARNs, and the only one that requests may be signed for.
    pub region: String,
    /// The account in all ARNs.
    pub account: String,
    /// The name of the one cluster.
    pub cluster: String,
    /// The port that it listens on; 0 takes a free one.
    pub port: u16,
    /// Which requests are authorized.
    pub callers: Callers,
    /// Where tasks live; keep it short, sockets lie beneath it.
    pub root: PathBuf,
    /// Where volumes are seen whichever task they belong to, by their path in containers; the others, and all of them
    /// where the machine has no namespaces for it, are seen where the task lies.
    pub places: HashMap<String, PathBuf>,
    /// Secrets by ARN, as `secrets[].valueFrom` names them.
    pub secrets: HashMap<String, String>,
    /// Reads secrets that are not among these.
    pub fetch_secret: FetchSecret,
    /// Replaces values in containers' environments.
    pub place: Place,
    /// How `environmentFiles` are read.
    pub fetch_s3: FetchS3,
    /// What a task is made of.
    pub runtime: Runtime,
    /// Where EventBridge events go; without a receiver they are only remembered.
    pub events: UnboundedSender<Value>,
}

impl Options {
    /// Ordinary options: processes beneath `root`, no secrets, no S3.
    pub fn new(root: impl Into<PathBuf>, events: UnboundedSender<Value>) -> Self {
        let no_s3 = |arn: String| async move { Err(io::Error::other(format!("no S3 to read `{arn}` from"))) }.boxed();
        Options {
            clock: Clock::default(),
            traffic: Traffic::default(),
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            cluster: "mayfly".to_owned(),
            port: 0,
            callers: Callers::Key("AKIASANDBOX".to_owned()),
            root: root.into(),
            places: HashMap::new(),
            secrets: HashMap::new(),
            fetch_secret: Arc::new(|_| async { Ok(None) }.boxed()),
            place: Arc::new(|_| None),
            fetch_s3: Arc::new(no_s3),
            runtime: Runtime::Processes,
            events,
        }
    }

    pub(super) fn cluster_arn(&self) -> String {
        self.arn(&format!("cluster/{}", self.cluster))
    }

    /// The ARN of one of this account's ECS resources.
    pub(super) fn arn(&self, resource: &str) -> String {
        format!("arn:aws:ecs:{}:{}:{resource}", self.region, self.account)
    }
}
