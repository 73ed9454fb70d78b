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
use super::services::{ServiceLogs, Services};
use super::setup::learn;
use super::shell::SHELLS;
use super::signals::{Cut, Signals};
use super::stages;
use super::timeouts::{Timeouts, warn_of_timeout};
use super::tree::end_descendants;

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
        let section = self.context.log.section("prepare_script", "Preparing environment");
        if let Err(error) = self.prepare() {
            let message = format!("prepare environment: {error}");
            return Outcome::failed(error.reason, message);
        }
        let services = Services::of(self.context);
        let logs = ServiceLogs::follow(&services, self.context);
        let prepared = self.prepare_services(&services).await;
        drop(section);
        let result = match prepared {
            Ok(()) => self.run_stages(&services).await,
            failed => failed,
        };
        if let Some(logs) = logs {
            logs.end(matches!(result, Err(Failure::Cut(_)))).await;
        }
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
        let secrets = self.cut_short("resolve_secrets", true, resolve_secrets(self.context)).await?;
        if secrets.is_empty() {
            return Ok(());
        }
        let context = &mut *self.context;
        context.log.mask(secrets.iter().flat_map(|secret| [secret.value.clone(), secret.value.trim().to_owned()]));
        learn(context, secrets);
        Ok(())
    }

    /// Makes the job's directories, and sees whether its image can run scripts at all.
    fn prepare(&mut self) -> Result<(), StageError> {
        let context = &*self.context;
        context.log.line(&format!("Running on {} via mayfly...", host_name()));
        if self.build.shell().is_none() {
            let message =
                format!("shell not found: put `bash` or `sh` into the image as one of `{}`", SHELLS.join("`, `"));
            return Err(StageError::new(FailureReason::RunnerConfigurationError, message));
        }
        let place = &context.place;
        let files = file_variables::contents(&context.variables);
        let made = file_variables::remove(place)
            .and_then(|()| file_variables::write(&place.builds_dir, &place.temp_dir, &files))
            .and_then(|()| place.make_project());
        made.map_err(|error| {
            let message = format!("cannot make the job's directories in `{}`: {error}", place.builds_dir.display());
            StageError::new(FailureReason::RunnerSystemFailure, message)
        })
    }

    /// Names the services in the image and waits for them.
    async fn prepare_services(&mut self, services: &Services) -> Result<(), Failure> {
        let prepared = {
            let (build, log) = (&mut *self.build, &self.context.log);
            tokio::select! {
                biased;
                cut = self.signals.cut(true) => Err(cut),
                environment = services.prepare(build, log) => Ok(environment),
            }
        };
        let prepared = prepared.map_err(|cut| {
            if cut == Cut::TimedOut {
                warn_of_timeout(self.context, "prepare_script");
            }
            Failure::Cut(cut)
        })?;
        for (name, value) in prepared {
            // What the job has set itself is right.
            self.context.environment.entry(name).or_insert(value);
        }
        Ok(())
    }

    async fn run_stages(&mut self, services: &Services) -> Result<(), Failure> {
        let result = match self.bring().await {
            Ok(()) => self.run_scripts().await,
            failed => failed,
        };
        if let Err(Failure::Cut(_) | Failure::Over(_)) = result {
            return result;
        }
        services.tell_ends(&self.context.log).await;
        self.read_gitlab_env();
        // Both take place whatever becomes of the other; the first to have failed is the reason.
        let failed = result.is_err();
        let archive = stages::archive_cache(self.context, failed);
        let archived = self.cut_short(stages::archive_cache_name(failed), false, archive).await;
        if let Err(Failure::Cut(_)) = archived {
            return archived;
        }
        let upload = stages::upload_artifacts(self.context, failed);
        let uploaded = self.cut_short(stages::upload_artifacts_name(failed), false, upload).await;
        match uploaded {
            Err(Failure::Cut(_)) => uploaded,
            _ => result.and(archived).and(uploaded),
        }
    }

    /// What has to be there before the script.
    async fn bring(&mut self) -> Result<(), Failure> {
        let brought = self.get_sources().await;
        // A hook script may have left daemons, which would see what the helper does next.
        end_descendants().await;
        brought?;
        self.read_gitlab_env();
        self.cut_short("restore_cache", true, stages::restore_cache(self.context)).await?;
        self.cut_short("download_artifacts", true, stages::download_artifacts(self.context)).await
    }

    /// All attempts together take no longer than `get_sources_timeout` (runner-behaviour.md §1.2).
    async fn get_sources(&self) -> Result<(), Failure> {
        let sources = self.cut_short("get_sources", true, stages::get_sources(self.context));
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
        let given = self.cut_short("step_script", true, async {
            self.give_to_build().await;
            Ok(())
        });
        given.await?;
        let mut scripts = Scripts::new(self.context, self.build, self.signals, self.timeouts);
        let result = scripts.run().await;
        // What is uploaded may be named after it.
        let status = scripts.status;
        self.context.environment.insert("CI_JOB_STATUS".into(), status.into());
        result.map_err(|failure| match failure {
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
        name: &str,
        cancel_counts: bool,
        stage: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, Failure> {
        let cut = tokio::select! {
            biased;
            cut = self.signals.cut(cancel_counts) => cut,
            result = stage => return result.map_err(Failure::Stage),
        };
        if cut == Cut::TimedOut {
            warn_of_timeout(self.context, name);
        }
        Err(Failure::Cut(cut))
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
