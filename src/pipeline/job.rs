//! Owns the types of a pipeline that was read: what GitLab keeps of the file.

use std::time::Duration;

/// A `.gitlab-ci.yml`, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipeline {
    /// The stages in order, `.pre` first and `.post` last.
    pub stages: Vec<String>,
    /// The file's own `variables`, which every job inherits.
    pub variables: Vec<Variable>,
    /// The jobs in the order of the file; hidden ones are left out.
    pub jobs: Vec<Job>,
}

/// One job with the file's defaults applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// The key of the job in the file.
    pub name: String,
    /// The line that the job starts at.
    pub line: usize,
    /// One of [`Pipeline::stages`].
    pub stage: String,
    /// The image that the scripts run in.
    pub image: Option<Image>,
    /// The service containers beside it.
    pub services: Vec<Service>,
    /// The job's own variables; they win over the pipeline's.
    pub variables: Vec<Variable>,
    /// Commands before `script`, in the same shell.
    pub before_script: Vec<String>,
    /// The job's commands.
    pub script: Vec<String>,
    /// Commands after them, in a shell of their own.
    pub after_script: Vec<String>,
    /// What is kept from job to job.
    pub cache: Vec<Cache>,
    /// What is handed to GitLab.
    pub artifacts: Option<Artifacts>,
    /// What a runner must carry to take the job.
    pub tags: Vec<String>,
    /// What the job deploys to.
    pub environment: Option<Environment>,
    /// Whether the pipeline goes on when the job fails.
    pub allow_failure: bool,
    /// The job's own time limit.
    pub timeout: Option<Duration>,
    /// The jobs whose artifacts it gets: `None` is every job of an earlier stage.
    pub dependencies: Option<Vec<String>>,
}

/// A variable of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub key: String,
    /// Its value as written.
    pub value: String,
    /// `expand: false`: references in the value stay as they are.
    pub raw: bool,
}

/// An image, by name or with its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The reference, with variables as written.
    pub name: String,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// `docker: platform`.
    pub docker_platform: Option<String>,
    /// `docker: user`.
    pub docker_user: Option<String>,
    /// `kubernetes: user`.
    pub kubernetes_user: Option<String>,
    /// `pull_policy`, one or several.
    pub pull_policy: Option<Vec<String>>,
}

/// A service container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its image and the options that images have.
    pub image: Image,
    /// Further host names.
    pub alias: Option<String>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Variables of this service alone.
    pub variables: Option<Vec<Variable>>,
}

/// One cache of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Its key with variables as written; `default` where the file names none.
    pub key: String,
    /// The paths it holds.
    pub paths: Vec<String>,
    /// Whether files that git does not track are held, too.
    pub untracked: bool,
    /// `pull-push`, `pull`, `push`, or a variable.
    pub policy: String,
    /// `on_success`, `on_failure` or `always`.
    pub when: String,
    /// Keys to look at when the first has nothing.
    pub fallback_keys: Vec<String>,
    /// Shared between protected and other refs.
    pub unprotect: bool,
}

/// The artifacts of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// The archive's name.
    pub name: Option<String>,
    /// The paths in the archive.
    pub paths: Vec<String>,
    /// The paths left out of it.
    pub exclude: Vec<String>,
    /// Whether files that git does not track are in it, too.
    pub untracked: bool,
    /// `on_success`, `on_failure` or `always`.
    pub when: Option<String>,
    /// When GitLab deletes them, as written.
    pub expire_in: Option<String>,
    /// Report type and its paths.
    pub reports: Vec<(String, Vec<String>)>,
}

/// The environment of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Its name with variables as written.
    pub name: String,
    /// Where it can be seen.
    pub url: Option<String>,
    /// `start` unless the file says otherwise.
    pub action: Option<String>,
}
