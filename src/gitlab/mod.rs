//! All we know about GitLab: its jobs, its hooks, and the runner and job APIs.

mod failure_reason;
mod feature_flags;
mod features;
mod hook;
mod http;
mod job;
mod job_client;
pub mod masking;
mod outcome;
mod parts;
mod policy;
mod predefined;
mod retry;
mod runner_client;
mod secret;
mod settings;
mod short_token;
mod signature;
pub mod timestamps;
mod unsupported;
mod variables;

pub use failure_reason::FailureReason;
pub use feature_flags::changed_flags;
pub use features::{Features, features};
pub use hook::{Hook, HookError, read_hook};
pub use http::{HttpClients, HttpError, Sender, holds_certificates, http_client, http_client_with};
pub use job::{Identity, Job, Unread, identify};
pub use job_client::{ArtifactUpload, JobClient, JobStatus, TraceAnswer, TraceError, UpdateAnswer, UpdateError};
pub use outcome::Outcome;
pub use parts::{
    Artifact, ArtifactsFile, Cache, CachePolicy, Credentials, Dependency, GitInfo, Image, JobFeatures, JobInfo,
    RunnerInfo, Script, Service, Step, When,
};
pub use policy::PolicyOptions;
pub(crate) use predefined::DEFAULT_TIMEOUT_SECONDS;
pub use predefined::{BuildPlace, job_variables, job_variables_in, project_directory};
pub use retry::{Backoff, is_transient, retry_after};
pub use runner_client::{Claimed, RunnerClient, RunnerError, SystemInfo};
pub use secret::{AwsSecret, Secret, SecretSource, VaultSecret};
pub(crate) use settings::job_warnings;
pub use short_token::short_token;
pub use signature::{Verdict, WebhookSecrets, is_signing_token, verify};
pub use unsupported::unsupported;
pub use variables::{Variable, Variables};
