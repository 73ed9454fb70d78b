//! Runs the job's steps and its `after_script` in the image's shell (runner-behaviour.md §1.4, §3.3).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::gitlab::{FailureReason, Step, Variable, Variables};

use super::context::{Context, StageError};
use super::file_variables;
use super::frames::{Script, ScriptEnd};
use super::link::{Link, Ran};
use super::program::{Program, ShellOptions};
use super::signals::{Cut, Signals};
use super::stages;
use super::timeouts::{Timeouts, warn_of_timeout};

/// The step that runs behind the others, whatever became of them.
const AFTER_SCRIPT: &str = "after_script";

/// The step that GitLab adds for the keyword `release`.
const RELEASE: &str = "release";

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
    context: &'a Context,
    build: &'a mut Link,
    signals: &'a Signals,
    timeouts: &'a Timeouts,
    /// `CI_JOB_STATUS`.
    pub status: &'static str,
}

impl<'a> Scripts<'a> {
    pub(super) fn new(
        context: &'a Context,
        build: &'a mut Link,
        signals: &'a Signals,
        timeouts: &'a Timeouts,
    ) -> Scripts<'a> {
        Scripts { context, build, signals, timeouts, status: "running" }
    }

    /// Runs the steps in order up to the first that fails, then `after_script`.
    pub(super) async fn run(&mut self) -> Result<(), ScriptFailure> {
        self.context.job.policy.lines().iter().for_each(|words| self.context.log.runner_info(words));
        let result = self.run_steps().await;
        self.status = match &result {
            Ok(()) => "success",
            Err(ScriptFailure::Cancelled) => "canceled",
            Err(ScriptFailure::TimedOut) => "timedout",
            Err(_) => "failed",
        };
        if matches!(result, Err(ScriptFailure::Cut(_) | ScriptFailure::Broken(_))) {
            return result;
        }
        let after = self.run_after_script().await;
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
            self.run_step(step, deadline).await?;
        }
        Ok(())
    }

    async fn run_step(&mut self, step: &Step, deadline: Option<Instant>) -> Result<(), ScriptFailure> {
        let name = format!("step_{}", step.name.to_lowercase());
        let lines = match step.name.as_str() {
            RELEASE => self.expanded(&step.script),
            _ => step.script.clone(),
        };
        let script = self.script(&self.between_the_runners(lines), None, "script_step");
        let ran = {
            let headline = format!("Executing \"{name}\" stage of the job script");
            let _section = self.context.log.named_section(name.clone(), &headline);
            self.run_script(&script, deadline, true).await?
        };
        match ran {
            Ran::Ended(end) => self.judge(&end).map_err(ScriptFailure::Stage),
            Ran::Failed(sentence) => Err(ScriptFailure::Stage(system_failure(sentence))),
            Ran::Stopped(Stop::Cut(Cut::Cancelled)) => {
                self.context.log.runner_warning("script canceled externally (UI, API)");
                Err(ScriptFailure::Cancelled)
            }
            Ran::Stopped(Stop::Cut(cut)) => Err(self.cut(cut, &name)),
            Ran::Stopped(Stop::Timeout) => {
                warn_of_timeout(self.context, &name);
                Err(ScriptFailure::TimedOut)
            }
        }
    }

    /// Its failure counts only where the job wants it so; a cut always does.
    async fn run_after_script(&mut self) -> Result<(), ScriptFailure> {
        let Some(step) = self.context.job.step(AFTER_SCRIPT).filter(|step| !step.script.is_empty()) else {
            return Ok(());
        };
        match self.after_script(step).await {
            Ok(()) => Ok(()),
            Err(ScriptFailure::Stage(error)) if self.context.variables.flag("AFTER_SCRIPT_IGNORE_ERRORS", true) => {
                let text = format!("after_script failed, but job will continue unaffected: {error}");
                self.context.log.runner_warning(&text);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn after_script(&mut self, step: &Step) -> Result<(), ScriptFailure> {
        let deadline = Instant::now() + self.timeouts.after_script;
        let script = self.script(&step.script, Some("Running after script..."), "after_script_step");
        let ran = {
            let _section = self.context.log.section(AFTER_SCRIPT, "Running after_script");
            self.run_script(&script, Some(deadline), false).await?
        };
        match ran {
            Ran::Ended(end) => self.judge(&end).map_err(ScriptFailure::Stage),
            Ran::Failed(sentence) => Err(ScriptFailure::Stage(system_failure(sentence))),
            Ran::Stopped(Stop::Cut(cut)) => Err(self.cut(cut, AFTER_SCRIPT)),
            Ran::Stopped(Stop::Timeout) => {
                warn_of_timeout(self.context, AFTER_SCRIPT);
                let reason = FailureReason::JobExecutionTimeout;
                let error = StageError::new(reason, "after_script timeout: context deadline exceeded");
                Err(ScriptFailure::Stage(error))
            }
        }
    }

    fn cut(&self, cut: Cut, stage: &str) -> ScriptFailure {
        if cut == Cut::TimedOut {
            warn_of_timeout(self.context, stage);
        }
        ScriptFailure::Cut(cut)
    }

    /// Lines whose variables no shell expands, but we do: GitLab writes them so (runner-behaviour.md §3.3).
    fn expanded(&self, lines: &[String]) -> Vec<String> {
        let environment = self.context.environment.iter();
        let variables: Variables = environment.map(|(key, value)| Variable::public(key, value.as_str())).collect();
        lines.iter().map(|line| variables.expand(line)).collect()
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

    fn script(&self, lines: &[String], notice: Option<&str>, prefix: &str) -> Script {
        let context = self.context;
        let folds = context.job.features.trace_sections && context.variables.flag("FF_SCRIPT_SECTIONS", false);
        let mut environment: BTreeMap<String, String> = context.environment.clone();
        environment.extend(file_variables::read_gitlab_env(&context.place));
        environment.extend(stages::git_environment(context, &environment));
        environment.insert("CI_JOB_STATUS".into(), self.status.into());
        let program = Program {
            environment: &environment,
            directory: &context.place.project_dir.to_string_lossy(),
            notice,
            lines,
            sections: folds.then_some(prefix),
            options: ShellOptions::of(context),
        };
        Script {
            program: program.text(),
            environment: Program::unassignable(&environment),
            temp_dir: context.place.temp_dir.to_string_lossy().into_owned(),
            files: file_variables::contents(&context.variables),
        }
    }

    /// The runner's own scripts stand around each step, in the same shell (runner-behaviour.md §3.3).
    fn between_the_runners(&self, mut lines: Vec<String>) -> Vec<String> {
        let settings = &self.context.settings;
        if let Some(before) = settings.pre_build_script.as_ref().filter(|script| !script.is_empty()) {
            lines.insert(0, before.clone());
        }
        lines.extend(settings.post_build_script.clone().filter(|script| !script.is_empty()));
        lines
    }

    fn judge(&self, end: &ScriptEnd) -> Result<(), StageError> {
        let figure = end.memory_limit_mib.map(|mib| format!(" of {mib} MB")).unwrap_or_default();
        let words = format!(
            "the script's memory{figure} ran out and the kernel killed a process: ask for more with a `mem-` tag or \
             `MAYFLY_MEMORY`"
        );
        match (end.code, end.out_of_memory) {
            (0, false) => Ok(()),
            (0, true) => {
                self.context.log.runner_warning(&words);
                Ok(())
            }
            (code, out_of_memory) => {
                let why = if out_of_memory { format!(": {words}") } else { String::new() };
                let message = format!("exit code {code}{why}");
                Err(StageError { reason: FailureReason::ScriptFailure, exit_code: Some(code), message })
            }
        }
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
