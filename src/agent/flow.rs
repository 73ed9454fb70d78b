//! The way of a job through its stages, in GitLab Runner's order (runner-behaviour.md §1.2).

use std::future::Future;
use std::io;
use std::path::Path;

use tracing::warn;

use crate::gitlab::{FailureReason, Outcome};

use super::context::{Context, StageError};
use super::durations::format_duration;
use super::file_variables;
use super::link::Link;
use super::ownership;
use super::scripts::{ScriptFailure, Scripts};
use super::secrets::resolve_secrets;
use super::setup::environment;
use super::shell::SHELLS;
use super::signals::{Cut, Signals};
use super::stages;
use super::timeouts::Timeouts;

/// One job on its way.
pub(super) struct Flow<'a> {
    pub context: &'a mut Context,
    pub build: &'a mut Link,
    pub signals: &'a Signals,
    pub timeouts: &'a Timeouts,
}

/// Why a job does not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// A stage failed; those that follow a failure still run.
    Stage(StageError),
    /// Somebody cancelled the job while its script ran; the same stages still run.
    Cancelled,
    /// A stage took longer than the runner's owner allows; nothing runs any more.
    Over(StageError),
    /// Nothing runs any more.
    Cut(Cut),
}

impl Flow<'_> {
    /// Runs the job and says how it ended.
    pub(super) async fn run(mut self) -> Outcome {
        if let Err(failure) = self.resolve_secrets().await {
            return self.outcome(failure);
        }
        if let Err(error) = self.prepare() {
            let message = format!("prepare environment: {error}");
            return Outcome::failed(error.reason, message);
        }
        let result = self.run_stages().await;
        self.clean_up();
        match result {
            Ok(()) => Outcome::Success,
            Err(failure) => self.outcome(failure),
        }
    }

    fn outcome(&self, failure: Failure) -> Outcome {
        match failure {
            Failure::Stage(StageError { reason, exit_code, message })
            | Failure::Over(StageError { reason, exit_code, message }) => {
                Outcome::Failed { reason, exit_code, message }
            }
            Failure::Cancelled => Cut::Cancelled.outcome(self.timeouts.job),
            Failure::Cut(cut) => cut.outcome(self.timeouts.job),
        }
    }

    /// Makes variables of the job's secrets; the log never shows them.
    async fn resolve_secrets(&mut self) -> Result<(), Failure> {
        let secrets = self.cut_short(true, resolve_secrets(self.context)).await?;
        if secrets.is_empty() {
            return Ok(());
        }
        let context = &mut *self.context;
        context.log.mask(secrets.iter().flat_map(|secret| [secret.value.clone(), secret.value.trim().to_owned()]));
        secrets.into_iter().for_each(|secret| context.variables.push(secret));
        context.environment = environment(&context.variables, &context.place.temp_dir);
        Ok(())
    }

    /// Makes the job's directories, and sees whether its image can run scripts at all.
    fn prepare(&mut self) -> Result<(), StageError> {
        let context = &*self.context;
        let _section = context.log.section("prepare_script", "Preparing environment");
        context.log.line(&format!("Running on {} via mayfly...", host_name()));
        if self.build.shell().is_none() {
            let message =
                format!("shell not found: put `bash` or `sh` into the image as one of `{}`", SHELLS.join("`, `"));
            return Err(StageError::new(FailureReason::RunnerConfigurationError, message));
        }
        let place = &context.place;
        let files = file_variables::contents(&context.variables, &place.temp_dir);
        let made = file_variables::remove(place)
            .and_then(|()| file_variables::write(&place.builds_dir, &place.temp_dir, &files))
            .and_then(|()| place.make_project());
        made.map_err(|error| {
            let message = format!("cannot make the job's directories in `{}`: {error}", place.builds_dir.display());
            StageError::new(FailureReason::RunnerSystemFailure, message)
        })
    }

    async fn run_stages(&mut self) -> Result<(), Failure> {
        let result = match self.bring().await {
            Ok(()) => self.run_scripts().await,
            failed => failed,
        };
        if let Err(Failure::Cut(_) | Failure::Over(_)) = result {
            return result;
        }
        self.read_gitlab_env();
        // Both take place whatever becomes of the other; the first to have failed is the reason.
        let archived = self.cut_short(false, stages::archive_cache(self.context, result.is_err())).await;
        if let Err(Failure::Cut(_)) = archived {
            return archived;
        }
        let result = result.and(archived);
        let uploaded = self.cut_short(false, stages::upload_artifacts(self.context, result.is_err())).await;
        match uploaded {
            Err(Failure::Cut(_)) => uploaded,
            _ => result.and(uploaded),
        }
    }

    /// What has to be there before the script.
    async fn bring(&mut self) -> Result<(), Failure> {
        self.get_sources().await?;
        self.read_gitlab_env();
        self.cut_short(true, stages::restore_cache(self.context)).await?;
        self.cut_short(true, stages::download_artifacts(self.context)).await
    }

    /// All attempts together take no longer than `get_sources_timeout` (runner-behaviour.md §1.2).
    async fn get_sources(&self) -> Result<(), Failure> {
        let sources = self.cut_short(true, stages::get_sources(self.context));
        let most = self.timeouts.get_sources(self.context.settings.get_sources_timeout.as_deref());
        match tokio::time::timeout(most, sources).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Over(StageError::new(
                FailureReason::JobExecutionTimeout,
                format!("get sources timeout: exceeded timeout of {}", format_duration(most)),
            ))),
        }
    }

    async fn run_scripts(&mut self) -> Result<(), Failure> {
        let given = self.cut_short(true, async {
            self.give_to_build().await;
            Ok(())
        });
        given.await?;
        let mut scripts =
            Scripts { context: self.context, build: self.build, signals: self.signals, timeouts: self.timeouts };
        scripts.run().await.map_err(|failure| match failure {
            ScriptFailure::Stage(error) | ScriptFailure::Broken(error) => Failure::Stage(error),
            ScriptFailure::TimedOut => Failure::Stage(StageError::new(
                FailureReason::JobExecutionTimeout,
                "script timeout: context deadline exceeded",
            )),
            ScriptFailure::Cancelled => Failure::Cancelled,
            ScriptFailure::Cut(cut) => Failure::Cut(cut),
        })
    }

    /// Runs a stage until it is done or something ends the job; a stage that is dropped kills what it started.
    async fn cut_short<T>(
        &self,
        cancel_counts: bool,
        stage: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            cut = self.signals.cut(cancel_counts) => Err(Failure::Cut(cut)),
            result = stage => result.map_err(Failure::Stage),
        }
    }

    /// The image's user owns what its scripts find; only root can give.
    async fn give_to_build(&self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (user, place) = (self.build.peer(), self.context.place.clone());
        let given = tokio::task::spawn_blocking(move || {
            let give = |directory: &Path| {
                let beneath = directory.strip_prefix(&place.builds_dir).map_err(io::Error::other)?;
                ownership::give(&place.builds_dir, beneath, user)
            };
            give(&place.project_dir).and_then(|()| give(&place.temp_dir))
        });
        match given.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, "the sources could not be given to the image's user");
                self.context.log.runner_warning(&format!("cannot give the sources to the image's user: {error}"));
            }
            Err(error) => warn!(%error, "giving the sources to the image's user broke"),
        }
    }

    /// Takes over what scripts have written to `GITLAB_ENV`.
    fn read_gitlab_env(&mut self) {
        let handed_on = file_variables::read_gitlab_env(&self.context.place);
        self.context.environment.extend(handed_on);
    }

    fn clean_up(&self) {
        let _section = self
            .context
            .log
            .section("cleanup_file_variables", "Cleaning up project directory and file based variables");
        if let Err(error) = file_variables::remove(&self.context.place) {
            warn!(%error, "the job's temporary directory stays");
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "a task".into(),
        name => name.to_owned(),
    }
}
