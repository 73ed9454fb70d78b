//! Runs the job's scripts around get_sources, with sh in the helper (runner-behaviour.md §3.6).

use crate::agent::child;
use crate::agent::context::{Context, StageError};
use crate::agent::program::{quote, told_and_run};
use crate::gitlab::FailureReason;

use super::repository::Git;

/// A hook that GitLab knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Before,
    After,
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Hook::Before => "pre_get_sources_script",
            Hook::After => "post_get_sources_script",
        }
    }

    /// What the names of its sections begin with: still the names that these hooks had before.
    fn prefix(self) -> &'static str {
        match self {
            Hook::Before => "pre_clone_script",
            Hook::After => "post_clone_script",
        }
    }
}

/// Runs `hook` if the runner or the job has it, the runner's on the outside.
pub(super) async fn run_hook(git: &Git<'_>, hook: Hook) -> Result<(), StageError> {
    let context = git.context();
    let jobs = context.job.hooks.iter().filter(|script| script.name == hook.name()).map(|script| script.script.clone());
    let runners = match hook {
        Hook::Before => &context.settings.pre_get_sources_script,
        Hook::After => &context.settings.post_get_sources_script,
    };
    let runners = runners.iter().map(|script| vec![script.clone()]);
    let scripts: Vec<Vec<String>> = match hook {
        Hook::Before => runners.chain(jobs).collect(),
        Hook::After => jobs.chain(runners).collect(),
    };
    for script in scripts {
        let mut command = child::command("sh", context);
        command.envs(git.environment().iter().map(|(key, value)| (key, value)));
        command.current_dir(match hook {
            Hook::Before => &context.place.builds_dir,
            Hook::After => &context.place.project_dir,
        });
        let program = Some(program(context, hook, &script));
        let ended = child::run(command, context.child_user, program, Some(&context.log)).await;
        let status = ended.map_err(|error| {
            let message = format!("the helper cannot start `sh` for `hooks:{}`: {error}", hook.name());
            StageError::new(FailureReason::RunnerSystemFailure, message)
        })?;
        if !status.success() {
            let exit_code = child::exit_code(status);
            let message = format!("`hooks:{}` ended with exit code {exit_code}", hook.name());
            return Err(StageError {
                exit_code: Some(exit_code),
                ..StageError::new(FailureReason::ScriptFailure, message)
            });
        }
    }
    Ok(())
}

/// One shell runs all lines, tells each before it, and stops at the first that fails; standard input is empty.
fn program(context: &Context, hook: Hook, lines: &[String]) -> String {
    let folds = context.job.features.trace_sections && context.variables.flag("FF_SCRIPT_SECTIONS", false);
    let body = quote(&told_and_run(lines, folds.then_some(hook.prefix())));
    let trace = if context.job.wants_debug_trace() { "set -o xtrace\n" } else { "" };
    format!("{trace}set -o errexit\n(eval {body}) </dev/null\nexit 0\n")
}
