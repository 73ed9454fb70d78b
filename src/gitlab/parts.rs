//! Owns the parts of a claimed job, in GitLab's shapes (runner-behaviour.md Appendix A).

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::Variable;

/// Who and where the job is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    /// The job's name.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// Its project.
    pub project_id: u64,
    /// The project's last path component.
    pub project_name: String,
    /// Its pipeline.
    #[serde(deserialize_with = "or_default")]
    pub pipeline_id: Option<u64>,
    /// How long GitLab kept it waiting before the claim.
    #[serde(deserialize_with = "or_default")]
    pub time_in_queue_seconds: Option<f64>,
}

/// What to check out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GitInfo {
    /// The project's HTTP URL; holds the job token.
    pub repo_url: SecretString,
    /// `sha1` or `sha256`.
    #[serde(deserialize_with = "or_default")]
    pub repo_object_format: Option<String>,
    /// Branch or tag name.
    #[serde(rename = "ref")]
    pub ref_name: String,
    /// The commit.
    pub sha: String,
    /// The commit before the push.
    #[serde(deserialize_with = "or_default")]
    pub before_sha: String,
    /// `branch` or `tag`.
    #[serde(deserialize_with = "or_default")]
    pub ref_type: String,
    /// What to fetch.
    #[serde(deserialize_with = "or_default")]
    pub refspecs: Vec<String>,
    /// How deep; 0 is everything.
    #[serde(deserialize_with = "or_default")]
    pub depth: u64,
}

/// What GitLab says of the runner in this job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RunnerInfo {
    /// The job's timeout in seconds, counted from the claim.
    #[serde(deserialize_with = "or_default")]
    pub timeout: Option<u64>,
}

/// One step; the known names are `script`, `after_script` and `release`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The lines, `before_script` and `script` merged.
    #[serde(deserialize_with = "or_default")]
    pub script: Vec<String>,
    /// When it runs.
    #[serde(deserialize_with = "or_default")]
    pub when: When,
    /// Ignored, as GitLab Runner does.
    #[serde(deserialize_with = "or_default")]
    pub allow_failure: bool,
}

/// A named script that is not a step: `hooks:pre_get_sources_script`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// The lines.
    #[serde(deserialize_with = "or_default")]
    pub script: Vec<String>,
}

/// On which result something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The job has not failed.
    #[default]
    OnSuccess,
    /// The job has failed.
    OnFailure,
    /// Both.
    Always,
}

impl When {
    /// Whether it is time, in a job that has failed or not.
    pub fn matches(self, failed: bool) -> bool {
        match self {
            When::OnSuccess => !failed,
            When::OnFailure => failed,
            When::Always => true,
        }
    }
}

/// The image of a container, with what the job says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Image {
    /// The image's name, variables not yet expanded.
    pub name: String,
    /// Replaces the image's entry point.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// `docker` and `kubernetes` options, as sent.
    #[serde(deserialize_with = "or_default")]
    pub executor_opts: serde_json::Map<String, serde_json::Value>,
    /// `always`, `if-not-present`, `never`.
    #[serde(deserialize_with = "or_default")]
    pub pull_policy: Vec<String>,
}

/// A service: one more container on the job's localhost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its image.
    #[serde(flatten)]
    pub image: Image,
    /// Names that lead to it, separated by blanks or commas.
    #[serde(deserialize_with = "or_default")]
    pub alias: String,
    /// Arguments for its entry point.
    #[serde(deserialize_with = "or_default")]
    pub command: Vec<String>,
    /// Variables of this service only.
    #[serde(deserialize_with = "or_default")]
    pub variables: Vec<Variable>,
}

/// Files to hand to GitLab when the job is done.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// The archive's name; variables are expanded when it is packed.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Take what git does not know, too.
    #[serde(deserialize_with = "or_default")]
    pub untracked: bool,
    /// Glob patterns below the project directory.
    #[serde(deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// Patterns that take paths out again.
    #[serde(deserialize_with = "or_default")]
    pub exclude: Vec<String>,
    /// On which result.
    #[serde(deserialize_with = "or_default")]
    pub when: When,
    /// GitLab reads it.
    #[serde(deserialize_with = "or_default")]
    pub expire_in: Option<String>,
    /// `archive` if empty, or a report's type.
    #[serde(deserialize_with = "or_default")]
    pub artifact_type: Option<String>,
    /// `zip`, `gzip` or `raw`.
    #[serde(deserialize_with = "or_default")]
    pub artifact_format: Option<String>,
}

/// One cache of the job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// Its key, variables not yet expanded, GitLab's suffix for protected refs included.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
    /// Take what git does not know, too.
    #[serde(deserialize_with = "or_default")]
    pub untracked: bool,
    /// Glob patterns below the project directory.
    #[serde(deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// Variables not yet expanded: see [`CachePolicy`].
    #[serde(deserialize_with = "or_default")]
    pub policy: String,
    /// On which result it is saved.
    #[serde(deserialize_with = "or_default")]
    pub when: When,
    /// Tried in order when the key has nothing.
    #[serde(deserialize_with = "or_default")]
    pub fallback_keys: Vec<String>,
}

impl Cache {
    /// An entry without paths is ignored completely (runner-behaviour.md §5.3).
    pub fn holds_something(&self) -> bool {
        self.untracked || !self.paths.is_empty()
    }
}

/// Which ways a cache goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// Restored before the script.
    pub pull: bool,
    /// Saved after it.
    pub push: bool,
}

impl CachePolicy {
    /// Reads an expanded policy; `None` for a word that GitLab does not know.
    pub fn read(policy: &str) -> Option<Self> {
        match policy {
            "" | "pull-push" => Some(CachePolicy { pull: true, push: true }),
            "pull" => Some(CachePolicy { pull: true, push: false }),
            "push" => Some(CachePolicy { pull: false, push: true }),
            _ => None,
        }
    }
}

/// An earlier job whose artifacts this one gets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// That job's id.
    pub id: u64,
    /// That job's name.
    pub name: String,
    /// Opens its artifacts; today the running job's own token.
    pub token: SecretString,
    /// Absent when it left none.
    #[serde(deserialize_with = "or_default")]
    pub artifacts_file: Option<ArtifactsFile>,
}

/// The archive of a [`Dependency`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ArtifactsFile {
    /// Its name; empty means none.
    pub filename: String,
    /// In bytes.
    #[serde(deserialize_with = "or_default")]
    pub size: u64,
}

/// What the server can take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobFeatures {
    /// It folds sections of the trace.
    #[serde(deserialize_with = "or_default")]
    pub trace_sections: bool,
    /// Prefixes of tokens to mask.
    #[serde(deserialize_with = "or_default")]
    pub token_mask_prefixes: Vec<String>,
    /// The failure reasons that it knows.
    #[serde(deserialize_with = "or_default")]
    pub failure_reasons: Vec<String>,
}

/// What GitLab lets a runner log in to, with the job token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its host.
    pub url: String,
}

/// `null` is as good as absent.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
