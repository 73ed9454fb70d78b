//! Runs the job's steps and its `after_script` in the image's shell (runner-behaviour.md §1.4, §3.3).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::gitlab::{FailureReason, Step};

use super::context::{Context, StageError};
use super::file_variables;
use super::frames::{Script, ScriptEnd};
use super::link::{Link, Ran};
use super::program::{Program, ShellOptions};
use super::signals::{Cut, Signals};
use super::stages;
use super::timeouts::Timeouts;

/// The step that runs behind the others, whatever became of them.
const AFTER_SCRIPT: &str = "after_script";

/// How the scripts went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScriptFailure {
    /// A script failed.
    Stage(StageError),
    /// Build is lost: no script can run any more.
    Broken(StageError),
    /// `RUNNER_SCRIPT_TIMEOUT` is over.
    TimedOut,
    /// Somebody cancelled the job meanwhile; it ends in order.
    Cancelled,
    /// The job ends here.
    Cut(Cut),
}

/// What ends one script early.
enum Stop {
    Cut(Cut),
    Timeout,
}

/// Runs scripts for one job.
pub(super) struct Scripts<'a> {
    pub context: &'a Context,
    pub build: &'a mut Link,
    pub signals: &'a Signals,
    pub timeouts: &'a Timeouts,
}

impl Scripts<'_> {
    /// Runs the steps in order up to the first that fails, then `after_script`.
    pub(super) async fn run(&mut self) -> Result<(), ScriptFailure> {
        let result = self.run_steps().await;
        if matches!(result, Err(ScriptFailure::Cut(_) | ScriptFailure::Broken(_))) {
            return result;
        }
        let after = self.run_after_script(&result).await;
        match (result, after) {
            (_, Err(failure @ ScriptFailure::Cut(_))) => Err(failure),
            (Ok(()), after) => after,
            (result, _) => result,
        }
    }

    async fn run_steps(&mut self) -> Result<(), ScriptFailure> {
        let deadline = self.timeouts.script.map(|timeout| Instant::now() + timeout);
        let steps = self.context.job.steps.iter();
        for step in steps.filter(|step| step.name != AFTER_SCRIPT && !step.script.is_empty()) {
            let name = format!("step_{}", step.name.to_lowercase());
            let headline = format!("Executing \"{name}\" stage of the job script");
            let _section = self.context.log.named_section(name, &headline);
            let lines = match step.name.as_str() {
                "release" => step.script.iter().map(|line| self.context.variables.expand(line)).collect(),
                _ => step.script.clone(),
            };
            let script = self.script(&lines, None, "running");
            let ran = self.run_script(&script, deadline, true).await?;
            match ran {
                Ran::Ended(end) => self.judge(&end).map_err(ScriptFailure::Stage)?,
                Ran::Failed(sentence) => return Err(ScriptFailure::Stage(system_failure(sentence))),
                Ran::Stopped(Stop::Cut(Cut::Cancelled)) => {
                    self.context.log.runner_warning("script canceled externally (UI, API)");
                    return Err(ScriptFailure::Cancelled);
                }
                Ran::Stopped(Stop::Cut(cut)) => return Err(ScriptFailure::Cut(cut)),
                Ran::Stopped(Stop::Timeout) => {
                    self.warn_of_timeout(&step.name);
                    return Err(ScriptFailure::TimedOut);
                }
            }
        }
        Ok(())
    }

    /// Its failure counts only where the job wants it so; a cut always does.
    async fn run_after_script(&mut self, result: &Result<(), ScriptFailure>) -> Result<(), ScriptFailure> {
        let Some(step) = self.context.job.step(AFTER_SCRIPT).filter(|step| !step.script.is_empty()) else {
            return Ok(());
        };
        let status = match result {
            Ok(()) => "success",
            Err(ScriptFailure::Cancelled) => "canceled",
            Err(ScriptFailure::TimedOut) => "timedout",
            Err(_) => "failed",
        };
        let _section = self.context.log.section(AFTER_SCRIPT, "Running after_script");
        match self.after_script(step, status).await {
            Ok(()) => Ok(()),
            Err(ScriptFailure::Stage(error)) if self.context.variables.flag("AFTER_SCRIPT_IGNORE_ERRORS", true) => {
                let text = format!("after_script failed, but job will continue unaffected: {error}");
                self.context.log.runner_warning(&text);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn after_script(&mut self, step: &Step, status: &str) -> Result<(), ScriptFailure> {
        let deadline = Instant::now() + self.timeouts.after_script;
        let script = self.script(&step.script, Some("Running after script..."), status);
        match self.run_script(&script, Some(deadline), false).await? {
            Ran::Ended(end) => self.judge(&end).map_err(ScriptFailure::Stage),
            Ran::Failed(sentence) => Err(ScriptFailure::Stage(system_failure(sentence))),
            Ran::Stopped(Stop::Cut(cut)) => Err(ScriptFailure::Cut(cut)),
            Ran::Stopped(Stop::Timeout) => {
                self.warn_of_timeout(AFTER_SCRIPT);
                let reason = FailureReason::JobExecutionTimeout;
                let error = StageError::new(reason, "after_script timeout: context deadline exceeded");
                Err(ScriptFailure::Stage(error))
            }
        }
    }

    async fn run_script(
        &mut self,
        script: &Script,
        deadline: Option<Instant>,
        cancel_counts: bool,
    ) -> Result<Ran<Stop>, ScriptFailure> {
        let signals = self.signals;
        let stop = async move {
            tokio::select! {
                biased;
                cut = signals.cut(cancel_counts) => Stop::Cut(cut),
                () = until(deadline) => Stop::Timeout,
            }
        };
        let ran = self.build.run(script, &self.context.log, stop).await;
        match ran {
            Ok(ran) => Ok(ran),
            Err(error) => {
                // A stop of the whole task is heard before build goes: build outlives its SIGTERM. Without one, build has
                // ended by itself, and takes the task with it in a moment.
                let interrupted = tokio::time::timeout(STOP_IS_KNOWN, signals.cut(false)).await;
                Err(match interrupted {
                    Ok(cut) => ScriptFailure::Cut(cut),
                    Err(_) => ScriptFailure::Broken(system_failure(error.to_string())),
                })
            }
        }
    }

    fn script(&self, lines: &[String], notice: Option<&str>, status: &str) -> Script {
        let context = self.context;
        let mut environment: BTreeMap<String, String> = context.environment.clone();
        environment.extend(file_variables::read_gitlab_env(&context.place));
        environment.extend(stages::git_environment(context, &environment));
        environment.insert("CI_JOB_STATUS".into(), status.into());
        let program = Program {
            environment: &environment,
            directory: &context.place.project_dir.to_string_lossy(),
            notice,
            lines,
            options: ShellOptions::of(&context.variables),
        };
        Script {
            program: program.text(),
            environment: Program::unassignable(&environment),
            temp_dir: context.place.temp_dir.to_string_lossy().into_owned(),
            files: file_variables::contents(&context.variables),
        }
    }

    fn judge(&self, end: &ScriptEnd) -> Result<(), StageError> {
        let words = "the task's memory ran out and the kernel killed a process: ask for more with a `mem-` tag or \
                     `MAYFLY_MEMORY`";
        match (end.code, end.out_of_memory) {
            (0, false) => Ok(()),
            (0, true) => {
                self.context.log.runner_warning(words);
                Ok(())
            }
            (code, out_of_memory) => {
                let why = if out_of_memory { format!(": {words}") } else { String::new() };
                let message = format!("exit code {code}{why}");
                Err(StageError { reason: FailureReason::ScriptFailure, exit_code: Some(code), message })
            }
        }
    }

    fn warn_of_timeout(&self, stage: &str) {
        let text = format!(
            "{stage} could not run to completion because the timeout was exceeded. For more control over job and script \
             timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts"
        );
        self.context.log.runner_warning(&text);
    }
}

/// Long enough to see a stop that has come, too short for one that is the consequence.
const STOP_IS_KNOWN: Duration = Duration::from_millis(50);

fn system_failure(sentence: String) -> StageError {
    StageError::new(FailureReason::RunnerSystemFailure, sentence)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
