//! A strict stand-in for GitLab: the runner API, hooks, the job queue and git over real HTTP.
//!
//! It shares nothing with our clients: every answer is built from gitlab-protocol.md, and each rule names its section.
//! Foreign clients get what the real server does; a client of ours (User-Agent `mayfly…`) that says a word GitLab does
//! not declare is answered 501, and the word is kept as a [violation](GitLab::violations).
#![expect(clippy::result_large_err, reason = "a refusal is an HTTP response, and so is the success beside it")]

mod artifact_types;
mod auto_retry;
mod call;
mod control;
mod crc;
mod deliver;
mod expand;
mod fault_layer;
mod faults;
mod git_http;
mod hook_bodies;
mod job_entity;
mod job_handle;
mod machine;
#[cfg(test)]
mod machine_tests;
mod merge_request;
mod mirror;
mod options;
mod payload;
mod payload_parts;
mod pipeline_handle;
mod pipeline_row;
mod predefined;
mod process;
mod queue;
mod reasons;
mod resources;
mod respond;
mod routes;
mod run;
mod secrets;
mod server;
mod shared;
mod state;
mod status;
mod strict;
mod sweep;
mod tree;
mod wire;

pub use faults::{Cut, Faults, Lag};
pub use job_handle::{ArtifactView, JobHandle};
pub use mirror::GitError;
pub use options::{Hook, Options, RunnerSpec, Scope, Source, Trigger, Variable};
pub use pipeline_handle::{PipelineHandle, Preview};
pub use run::PipelineError;
pub use server::GitLab;
pub use state::{Delivered, Delivery};
