//! Owns the rows of the stand-in's database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use super::faults::FaultState;
use super::mirror::Mirror;
use super::options::{Hook, RunnerSpec, Variable};
use super::pipeline_row::Pipeline;
use super::resources::{Group, Resources};
use super::status::Status;
use crate::pipeline;
use crate::sandbox::clock::Clock;

/// Everything that GitLab knows, behind one lock.
pub(super) struct State {
    pub clock: Clock,
    pub url: String,
    pub private_token: String,
    pub instance_uuid: String,
    pub runners: Vec<Runner>,
    pub projects: Vec<Project>,
    pub pipelines: BTreeMap<u64, Pipeline>,
    pub last_pipeline: u64,
    pub jobs: BTreeMap<u64, Job>,
    pub resources: Resources,
    /// Pipelines that something happened to which they do not know yet.
    pub touched: Vec<u64>,
    /// Delayed jobs that were just scheduled, and when they start.
    pub scheduled: Vec<(u64, Timestamp)>,
    pub hooks: Vec<HookRow>,
    pub deliveries: Vec<Delivery>,
    pub held: Vec<(u64, usize)>,
    /// Pipelines that just ended: their refs are to go.
    pub ended: Vec<u64>,
    pub faults: FaultState,
    pub violations: Vec<String>,
    pub claim_requests: usize,
    pub checksum_mismatches: usize,
    pub artifact_limit: u64,
    pub trace_limit: u64,
    pub lower_stuck_timeouts: bool,
    pub registry: Option<String>,
    pub releases: bool,
    /// Jobs get neither tokens nor secrets, as outside of GitLab.
    pub withholds_secrets: bool,
    pub storage: BTreeMap<String, PathBuf>,
}

pub(super) struct Runner {
    pub id: u64,
    pub token: String,
    pub spec: RunnerSpec,
    /// The database column, written lazily (gitlab-protocol.md §2.4, §9.3).
    pub contacted_at: Option<Timestamp>,
    pub managers: Vec<Manager>,
    /// What `last_update` is compared with (§3.5).
    pub queue_version: String,
}

pub(super) struct Manager {
    pub system_id: String,
    pub features: BTreeSet<String>,
    pub version: Option<String>,
    pub contacted_at: Timestamp,
}

pub(super) struct Project {
    pub id: u64,
    pub path: String,
    pub mirror: Arc<Mirror>,
    pub variables: Vec<Variable>,
    pub protected_refs: Vec<String>,
    pub default_branch: String,
    pub cache_index: Option<u64>,
    pub timeout: Duration,
    pub token_allowed_from: Vec<u64>,
    pub pipelines: u64,
    /// Source and target of every one; the first has the iid 1.
    pub merge_requests: Vec<(String, String)>,
}

#[derive(Clone)]
pub(super) struct Job {
    pub id: u64,
    pub pipeline: u64,
    pub project: u64,
    pub definition: Arc<pipeline::Job>,
    /// The place of its stage among the pipeline's.
    pub stage: usize,
    pub tags: Vec<String>,
    pub resource_group: Option<String>,
    /// Whether a failure of it is only a warning; exit codes decide when they are known.
    pub may_fail: bool,
    /// Somebody or `retry` starts it: `when: manual` and `when: delayed` hold it back no more.
    pub at_once: bool,
    pub status: Status,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
    pub history: Vec<(Timestamp, String)>,
    pub created_at: Timestamp,
    pub queued_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub scheduled_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    pub erased_at: Option<Timestamp>,
    /// Kept after the job's end, when it opens nothing any more (§10.1).
    pub token: Option<String>,
    pub runner: Option<u64>,
    pub system_id: String,
    pub timeout: Duration,
    /// How many jobs its runner could have had, and how many were looked at, when it was claimed.
    pub queue: (usize, usize),
    pub trace: Vec<u8>,
    pub hidden_secrets: usize,
    pub debug_trace: bool,
    pub artifacts: Vec<Artifact>,
    pub dotenv: Vec<(String, String)>,
    pub pending_state: Option<PendingState>,
    pub watched: bool,
    pub retries: u64,
    pub retried: bool,
    pub finishes: usize,
}

/// A final state that waits for its log (§5.3).
#[derive(Clone)]
pub(super) struct PendingState {
    pub outcome: Outcome,
    pub checksum: String,
    pub bytesize: Option<u64>,
    pub created_at: Timestamp,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub status: Status,
    pub reason: Option<String>,
    pub exit_code: Option<i64>,
}

#[derive(Clone)]
pub(super) struct Artifact {
    pub kind: String,
    pub format: String,
    pub filename: String,
    pub file: PathBuf,
    pub size: u64,
    pub sha256: String,
    pub expire_in: Option<String>,
}

pub(super) struct HookRow {
    pub project: u64,
    pub spec: Hook,
    pub failures: u32,
    pub disabled_until: Option<Timestamp>,
    pub queue: UnboundedSender<usize>,
}

/// One sending of a hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// `Job Hook` or `Pipeline Hook`.
    pub event: String,
    /// What the receiver answered.
    pub status: Option<u16>,
    /// The bytes that were sent.
    pub body: String,
    /// How far it came.
    pub delivered: Delivered,
    /// The same for every sending of one event (`Idempotency-Key`).
    pub key: String,
    pub(super) hook: usize,
}

/// How far the sending of a hook came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is in the queue or on its way.
    Waiting,
    /// The receiver answered.
    Answered,
    /// Nobody answered in time.
    Failed,
    /// It was never sent: lost by a fault, or its hook was disabled.
    Lost,
}

impl Delivery {
    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl State {
    pub fn project(&self, id: u64) -> Option<&Project> {
        self.projects.iter().find(|project| project.id == id)
    }

    pub fn runner_by_token(&mut self, token: &str) -> Option<&mut Runner> {
        self.runners.iter_mut().find(|runner| runner.token == token)
    }

    pub fn runner(&self, id: u64) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.id == id)
    }

    /// The job that runs with `token` now (§2.6: executing is running or canceling).
    pub fn executing_job(&self, token: &str) -> Option<&Job> {
        self.jobs.values().find(|job| job.status.is_executing() && job.token.as_deref() == Some(token))
    }

    pub fn is_protected(&self, project: u64, ref_name: &str) -> bool {
        self.project(project).is_some_and(|project| {
            project.default_branch == ref_name || project.protected_refs.iter().any(|name| name == ref_name)
        })
    }
}

/// A random word of `length` lower-case hex digits.
pub(super) fn random(length: usize) -> String {
    let mut word = String::new();
    while word.len() < length {
        word.push_str(&uuid::Uuid::new_v4().simple().to_string());
    }
    word.truncate(length);
    word
}

impl Project {
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }
}

impl Job {
    pub fn group(&self) -> Option<Group> {
        self.resource_group.clone().map(|group| (self.project, group))
    }

    pub fn archive(&self) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.kind == "archive")
    }

    /// GitLab touches a row only every 15 minutes (gitlab-protocol.md §9.1).
    pub fn touch(&mut self, now: Timestamp) {
        if now.duration_since(self.updated_at).as_secs() >= 15 * 60 {
            self.updated_at = now;
        }
    }
}
