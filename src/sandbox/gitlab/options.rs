//! Owns what a caller says about the sandbox's GitLab: its wiring, runners, variables and hooks.

use std::time::Duration;

use crate::sandbox::clock::Clock;
use crate::sandbox::traffic::Traffic;

/// The wiring of one GitLab.
#[derive(Clone, Default)]
pub struct Options {
    /// The time that it lives in.
    pub clock: Clock,
    /// Where its requests are recorded.
    pub traffic: Traffic,
    /// The port that it listens on; 0 takes a free one.
    pub port: u16,
}

/// A runner as an owner would create it (gitlab-protocol.md §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSpec {
    /// What people call it.
    pub description: String,
    /// Its tags; a job's must be a subset of them.
    pub tags: Vec<String>,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// Whether it takes jobs of protected refs only.
    pub ref_protected: bool,
    /// Whether it gets no jobs.
    pub paused: bool,
    /// Its own ceiling for a job's timeout.
    pub maximum_timeout: Option<Duration>,
    /// Whose jobs it sees.
    pub scope: Scope,
}

/// Whose jobs a runner sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every project's.
    #[default]
    Instance,
    /// One project's.
    Project(u64),
}

impl Default for RunnerSpec {
    fn default() -> Self {
        RunnerSpec {
            description: "sandbox".to_owned(),
            tags: Vec::new(),
            run_untagged: true,
            ref_protected: false,
            paused: false,
            maximum_timeout: None,
            scope: Scope::Instance,
        }
    }
}

/// What starts a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trigger {
    /// The branch or tag; for a merge request its source branch.
    pub ref_name: String,
    /// `CI_PIPELINE_SOURCE`.
    pub source: Source,
    /// Variables of this run: they win over the file's and over the project's.
    pub variables: Vec<Variable>,
    /// Values for the file's `spec:inputs`.
    pub inputs: Vec<(String, String)>,
    /// Where the configuration lies in the repository, if not at `.gitlab-ci.yml`: GitLab's "CI/CD configuration file".
    pub path: Option<String>,
    /// Only the jobs with these names; GitLab knows no such pipeline.
    pub only: Option<Vec<String>>,
}

/// What kind of event starts a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A push to a branch or of a tag.
    #[default]
    Push,
    /// A person, in GitLab's form.
    Web,
    /// A call of GitLab's API.
    Api,
    /// A merge request into the branch `target`.
    MergeRequest {
        /// The target branch.
        target: String,
        /// `CI_MERGE_REQUEST_TITLE`.
        title: String,
    },
}

impl Source {
    /// `CI_PIPELINE_SOURCE`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Source::Push => "push",
            Source::Web => "web",
            Source::Api => "api",
            Source::MergeRequest { .. } => "merge_request_event",
        }
    }
}

/// A project's CI variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Hidden in the trace.
    pub masked: bool,
    /// Written to a file whose path the job gets.
    pub file: bool,
    /// References in the value stay as they are.
    pub raw: bool,
    /// Only for jobs of protected refs.
    pub protected: bool,
}

/// A project's webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// Where it is sent.
    pub url: String,
    /// Whether it hears of jobs.
    pub job_events: bool,
    /// Whether it hears of pipelines.
    pub pipeline_events: bool,
    /// Sent as `X-Gitlab-Token`.
    pub secret_token: Option<String>,
    /// Signs the body: `whsec_` and base64 of 32 bytes.
    pub signing_token: Option<String>,
}
