//! Owns the types of a pipeline that was read: what GitLab keeps of the file.

use std::time::Duration;

use serde_json::Value;

/// The pipeline that one event makes of a file: rules are decided, matrices are jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pipeline {
    /// `workflow:name`.
    pub name: Option<String>,
    /// The stages in order, `.pre` first and `.post` last.
    pub stages: Vec<String>,
    /// The file's own `variables` and those of the workflow rule that held; jobs carry theirs themselves.
    pub variables: Vec<Variable>,
    /// The jobs in the order of the file; hidden ones and those that no rule adds are left out.
    pub jobs: Vec<Job>,
    /// What a person should know about keywords that act on GitLab's side alone, each named once.
    pub notes: Vec<String>,
}

/// One job as it is created, with the file's defaults applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// Its name in GitLab: the key in the file, for parallel jobs with `1/3` or `: [a, b]` behind it.
    pub name: String,
    /// The line that the job starts at.
    pub line: usize,
    /// One of [`Pipeline::stages`].
    pub stage: String,
    /// The image that the scripts run in.
    pub image: Option<Image>,
    /// The service containers beside it.
    pub services: Vec<Service>,
    /// All variables of the file that it sees: inherited, its own, its matrix', its rule's. A later one wins.
    pub variables: Vec<Variable>,
    /// `hooks:pre_get_sources_script`.
    pub pre_get_sources_script: Vec<String>,
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
    /// When the job starts.
    pub when: When,
    /// Whether the pipeline goes on when the job fails.
    pub allow_failure: AllowFailure,
    /// How often it is tried again, and after what.
    pub retry: Retry,
    /// The job's own time limit.
    pub timeout: Option<Duration>,
    /// `needs`: what it waits for instead of all earlier stages; `None` waits for the stages.
    pub needs: Option<Vec<Need>>,
    /// The names of the jobs whose artifacts it gets: `None` is every job that it waits for.
    pub dependencies: Option<Vec<String>>,
    /// `CI_NODE_INDEX` and `CI_NODE_TOTAL` of a parallel job.
    pub node: Option<Node>,
    /// `resource_group`, with variables as written.
    pub resource_group: Option<String>,
    /// `interruptible`.
    pub interruptible: bool,
    /// `release`.
    pub release: Option<Release>,
    /// `id_tokens`: variable and what the token is for, as written.
    pub id_tokens: Vec<(String, Value)>,
    /// `secrets`: variable and where its value lies, as written.
    pub secrets: Vec<(String, Value)>,
}

impl Pipeline {
    /// Leaves out every job that is not called one of `names`, and whatever the others wait for among them.
    pub fn keep_only(&mut self, names: &[String]) {
        let stays = |name: &String| names.contains(name);
        self.jobs.retain(|job| stays(&job.name));
        for job in &mut self.jobs {
            if let Some(needs) = &mut job.needs {
                needs.retain(|need| stays(&need.job));
            }
            if let Some(dependencies) = &mut job.dependencies {
                dependencies.retain(stays);
            }
        }
    }
}

impl Job {
    /// `allow_failure` as GitLab shows it: whether some failure of the job is only a warning.
    pub fn may_fail(&self) -> bool {
        self.allow_failure != AllowFailure::No
    }
}

/// When a job starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// What it waits for went well.
    #[default]
    OnSuccess,
    /// Something that it waits for failed.
    OnFailure,
    /// Whatever came of what it waits for.
    Always,
    /// A person starts it.
    Manual,
    /// After a delay.
    Delayed(Duration),
}

/// Whether a job may fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowFailure {
    /// Its failure is the pipeline's.
    #[default]
    No,
    /// Its failure is a warning.
    Yes,
    /// Its failure is a warning if the script ended with one of these.
    ExitCodes(Vec<i64>),
}

/// `retry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// Further tries, 2 at most.
    pub max: u64,
    /// The failure reasons that it goes for; empty is every one, as `always` is.
    pub when: Vec<String>,
    /// The exit codes that it goes for, besides `when`.
    pub exit_codes: Vec<i64>,
}

/// One job that another waits for; parallel jobs are named one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name, which is in the pipeline: an `optional` one that is not is left out.
    pub job: String,
    /// Whether its artifacts are wanted.
    pub artifacts: bool,
}

/// The place of one job among its parallel siblings, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// `CI_NODE_INDEX`.
    pub index: usize,
    /// `CI_NODE_TOTAL`.
    pub total: usize,
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

/// The release that GitLab makes when the job has succeeded, with variables as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The tag, made if it is not there.
    pub tag_name: String,
    /// What an annotated tag says.
    pub tag_message: Option<String>,
    /// Its title.
    pub name: Option<String>,
    /// Its text, or the name of a file that has it.
    pub description: String,
    /// What is tagged.
    pub ref_name: Option<String>,
    /// Titles of milestones.
    pub milestones: Vec<String>,
    /// When it is, was or will be out.
    pub released_at: Option<String>,
    /// `assets:links`, key by key.
    pub links: Vec<Vec<(String, String)>>,
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
    /// `deployment_tier`.
    pub tier: Option<String>,
}
