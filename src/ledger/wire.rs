//! Owns what the helper and the broker say to each other.

pub use super::helper_exit::HelperExit;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::plan::{Arch, MemorySplit, TaskSize};

/// `POST /open`: opens a ticket, the one moment after which a job is never launched again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// The ticket from the task's environment.
    pub ticket: String,
    /// Chosen by the helper, at least 32 characters; the same nonce gets the same answer again.
    pub nonce: String,
    /// [`proof`](super::keys::proof) that the helper holds the launch key, over ticket and nonce.
    pub proof: String,
}

/// All that the helper needs to run the job.
#[derive(Debug, Serialize, Deserialize)]
pub struct OpenAnswer {
    /// GitLab's base URL.
    pub gitlab: String,
    /// The claim, byte for byte.
    pub claim: Box<RawValue>,
    /// Who claimed it.
    pub runner: RunnerFacts,
    /// How long ago the job was claimed, in milliseconds: its timeout runs since then.
    pub claimed_ms_ago: u64,
    /// What the dispatcher has written to the trace; the helper goes on behind it.
    pub trace: String,
    /// The grant to show with every [`CacheRequest`].
    pub grant: String,
    /// What the runner's owner has set.
    #[serde(default)]
    pub settings: RunnerSettings,
    /// What happened to the job before; an older broker does not send it.
    #[serde(default)]
    pub timeline: Timeline,
    /// The task that the helper runs in; an older broker does not send it.
    #[serde(default)]
    pub task: Option<TaskFacts>,
}

/// When a job's first steps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// GitLab's hook came.
    pub hook_at: Option<Timestamp>,
    /// GitLab gave the job to us.
    pub claimed_at: Option<Timestamp>,
    /// The `RunTask` of this task was sent.
    pub launched_at: Option<Timestamp>,
}

/// What the price of a task depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFacts {
    /// Its size.
    pub size: TaskSize,
    /// How its memory is split.
    pub memory: MemorySplit,
    /// 21 to 200; `None` for the 20 GiB that come with every task.
    pub disk_gib: Option<u32>,
    /// Its processor.
    pub arch: Arch,
    /// It runs on spot capacity.
    pub spot: bool,
    /// It has a public address.
    pub public_address: bool,
    /// The AWS region.
    pub region: String,
}

/// Settings of the runner that act inside the task, as its owner wrote them (runner-behaviour.md §9.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerSettings {
    /// `KEY=VALUE` for every job.
    pub environment: Vec<String>,
    /// Before the sources are fetched.
    pub pre_get_sources_script: Option<String>,
    /// After it.
    pub post_get_sources_script: Option<String>,
    /// Before each step's script.
    pub pre_build_script: Option<String>,
    /// After it.
    pub post_build_script: Option<String>,
    /// In KiB.
    pub output_limit: Option<u64>,
    /// Flags that no job can change.
    pub feature_flags: BTreeMap<String, bool>,
    /// No `CI_DEBUG_TRACE`, no `CI_DEBUG_SERVICES`.
    pub debug_trace_disabled: bool,
    /// For all attempts together.
    pub get_sources_timeout: Option<String>,
    /// Instead of GitLab's own URL.
    pub clone_url: Option<String>,
    /// The largest cache archive, in bytes.
    pub max_uploaded_archive_size: Option<u64>,
    /// The certificates that GitLab is trusted by besides the public ones, in PEM.
    pub tls_ca: Option<String>,
}

/// What a trace and a cache key tell of the runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerFacts {
    /// Its name in the fleet configuration.
    pub name: String,
    /// Its short token.
    pub short_token: String,
    /// The deployment's system id.
    pub system_id: String,
}

/// `POST /cache`: asks for access to one of the granted objects.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheRequest {
    /// The grant.
    pub grant: String,
    /// Which of the job's caches, counted from 0.
    pub entry: usize,
    /// What for.
    pub access: CacheAccess,
}

/// What a helper may do with a granted cache object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CacheAccess {
    /// Read the object of one of the entry's keys: 0 is the key, then come the fallback keys.
    Restore {
        /// Which key.
        key: usize,
    },
    /// Write the whole object in one request of exactly so many bytes.
    Save {
        /// In bytes.
        size: u64,
    },
    /// Begin to write the object in parts.
    Begin,
    /// Write one part of exactly so many bytes.
    Part {
        /// From [`CacheAnswer::Begun`].
        upload: String,
        /// From 1.
        number: u32,
        /// In bytes; at least 5 MiB in all parts but the last.
        size: u64,
    },
    /// All parts are there.
    Complete {
        /// From [`CacheAnswer::Begun`].
        upload: String,
        /// The ETag of each part, in order.
        etags: Vec<String>,
    },
    /// Give the upload up.
    Abort {
        /// From [`CacheAnswer::Begun`].
        upload: String,
    },
}

/// The broker's answer to a [`CacheRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheAnswer {
    /// Do it here, with these headers, within 15 minutes.
    Url {
        /// Presigned.
        url: String,
        /// Signed headers that must be sent as they are.
        headers: Vec<(String, String)>,
    },
    /// The upload to name in the next requests.
    Begun {
        /// S3's upload id.
        upload: String,
    },
    /// Done.
    Done,
}

/// `POST /service-logs`: asks for what a service of the job has written (`CI_DEBUG_SERVICES`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceLogsRequest {
    /// The grant.
    pub grant: String,
    /// Which of the job's services, counted from 0.
    pub service: usize,
    /// Only what came after the answer with this mark.
    pub after: Option<String>,
}

/// The broker's answer to a [`ServiceLogsRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLogsAnswer {
    /// New lines, in their order, without their ends.
    pub lines: Vec<String>,
    /// To ask on from here.
    pub mark: Option<String>,
}

/// Why the broker refuses, as the body of a 4xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One sentence for the helper's log.
    pub message: String,
}
