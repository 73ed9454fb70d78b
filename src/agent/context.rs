//! Owns what every stage of a job needs to know.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::cache::object::EntryObjects;
use crate::gitlab::{FailureReason, Job, JobClient, Variables};
use crate::ledger::wire::RunnerSettings;

use super::broker_client::BrokerClient;
use super::log::JobLog;

/// One job in this task.
pub struct Context {
    /// The claim.
    pub job: Job,
    /// All variables as they are looked up: expanded, file variables with their contents.
    pub variables: Variables,
    /// The environment of scripts: every variable expanded, file variables as paths.
    pub environment: BTreeMap<String, String>,
    /// Where things lie.
    pub place: Place,
    /// The objects of the job's caches, counted as the broker counts them: without what is learned in the task.
    pub cache: Vec<EntryObjects>,
    /// What people read.
    pub log: JobLog,
    /// GitLab, for this job.
    pub gitlab: JobClient,
    /// GitLab, for this job's artifacts: long pauses are allowed.
    pub gitlab_artifacts: JobClient,
    /// The broker.
    pub broker: BrokerClient,
    /// Whom git and hook scripts run as; `None` when we are not root ourselves.
    pub child_user: Option<User>,
    /// What the runner's owner has set.
    pub settings: RunnerSettings,
}

/// The directories of a job.
#[derive(Clone, Debug)]
pub struct Place {
    /// The volume: `/builds`.
    pub builds_dir: PathBuf,
    /// `CI_PROJECT_DIR`.
    pub project_dir: PathBuf,
    /// `<project_dir>.tmp`: file variables and `GITLAB_ENV`; gone after the job.
    pub temp_dir: PathBuf,
}

impl Place {
    /// Opens the project directory beneath the builds volume.
    ///
    /// Scripts and services can write in that volume: whoever has put a link into the way leads nobody out of it.
    ///
    /// # Errors
    /// When it is not there, or leads out of the volume.
    pub fn open_project(&self) -> io::Result<Dir> {
        let builds = Dir::open_ambient_dir(&self.builds_dir, ambient_authority())?;
        builds.open_dir(self.project_beneath()?)
    }

    /// Makes the project directory beneath the builds volume, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or would lie outside of the volume.
    pub fn make_project(&self) -> io::Result<()> {
        let builds = Dir::open_ambient_dir(&self.builds_dir, ambient_authority())?;
        builds.create_dir_all(self.project_beneath()?)
    }

    /// The project directory, as it is called in the builds volume.
    ///
    /// # Errors
    /// When it does not lie there.
    pub fn project_beneath(&self) -> io::Result<&Path> {
        self.project_dir.strip_prefix(&self.builds_dir).map_err(io::Error::other)
    }
}

/// A uid and gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Why a stage ends the job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// What GitLab hears.
    pub reason: FailureReason,
    /// The script's exit code, where there is one.
    pub exit_code: Option<i32>,
    /// The sentence that a person reads.
    pub message: String,
}

impl StageError {
    /// Without an exit code.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        StageError { reason, exit_code: None, message: message.into() }
    }
}
