//! Runs the job's scripts around get_sources, with sh in the helper (runner-behaviour.md §3.6).

use std::collections::BTreeMap;

use crate::agent::child;
use crate::agent::context::StageError;
use crate::agent::program::{Program, ShellOptions};
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
        let directory = match hook {
            Hook::Before => &context.place.builds_dir,
            Hook::After => &context.place.project_dir,
        };
        let folds = context.job.features.trace_sections && context.variables.flag("FF_SCRIPT_SECTIONS", false);
        let mut command = child::command("sh", context);
        command.envs(git.environment().iter().map(|(key, value)| (key, value))).current_dir(directory);
        let program = Program {
            // The helper's own `PATH` and `HOME` are not the job's to replace: the variables are there already.
            environment: &BTreeMap::new(),
            directory: &directory.to_string_lossy(),
            notice: None,
            lines: &script,
            sections: folds.then_some(hook.prefix()),
            options: ShellOptions::of(context),
        };
        let ended = child::run(command, context.child_user, Some(program.text()), Some(&context.log)).await;
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
