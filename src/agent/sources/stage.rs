//! The stage get_sources: strategy, hooks, attempts (runner-behaviour.md §4.2, §1.2).

use std::io;

use crate::agent::attempts::attempts;
use crate::agent::context::{Context, Place, StageError, User};
use crate::gitlab::FailureReason;

use super::hooks::{Hook, run_hook};
use super::repository::{self, Git};
use super::settings::{Settings, Strategy};
use super::{directory, submodules};

/// Brings the sources of the job into its project directory; every attempt is a stage of its own.
///
/// # Errors
/// When the job cannot go on without them.
pub async fn get_sources(context: &Context) -> Result<(), StageError> {
    let settings = Settings::read(context)
        .map_err(|error| StageError::new(FailureReason::RunnerConfigurationError, error.to_string()))?;
    let mut pauses = attempts(context, "GET_SOURCES_ATTEMPTS");
    for number in 1.. {
        // A worktree in which git has failed once may let it fail again.
        let cleared = match number {
            2 => clear_worktree(context, &settings).await,
            _ => Ok(()),
        };
        let done = match cleared {
            Ok(()) => {
                let _section = context.log.section("get_sources", "Getting source from Git repository");
                attempt(context, &settings).await
            }
            failed => failed,
        };
        let Err(error) = done else { break };
        let Some(pause) = pauses.pause(None) else { return Err(error) };
        context.log.runner_warning(&format!("Getting the sources failed: {error}. Retrying..."));
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn clear_worktree(context: &Context, settings: &Settings) -> Result<(), StageError> {
    if settings.strategy == Strategy::None {
        return Ok(());
    }
    let headline = "Deleting all tracked and untracked files due to source fetch failure";
    let _section = context.log.section("clear_worktree", headline);
    context.log.notice("Deleting tracked and untracked files...");
    in_directory(context, |place, _| directory::empty(place)).await
}

async fn attempt(context: &Context, settings: &Settings) -> Result<(), StageError> {
    let log = &context.log;
    match settings.strategy {
        Strategy::None => {
            log.notice("Skipping Git repository setup");
            in_directory(context, directory::make).await?;
        }
        Strategy::Empty => {
            log.notice("Skipping Git repository setup and creating an empty build directory");
            in_directory(context, |place, owner| directory::empty(place).and_then(|()| directory::make(place, owner)))
                .await?;
        }
        Strategy::Clone | Strategy::Fetch => return with_git(context, settings).await,
    }
    log.notice("Skipping Git checkout");
    log.notice("Skipping Git submodules setup");
    Ok(())
}

async fn with_git(context: &Context, settings: &Settings) -> Result<(), StageError> {
    let correlation_id = uuid::Uuid::new_v4().simple().to_string();
    let traced = context.variables.flag("FF_USE_GITALY_CORRELATION_ID", true);
    let git = Git::new(context, traced.then_some(&correlation_id)).await?;
    run_hook(&git, Hook::Before).await?;
    let fresh = settings.strategy == Strategy::Clone;
    in_directory(context, move |place, owner| {
        if fresh {
            directory::empty(place)?;
        }
        directory::make(place, owner)?;
        directory::tidy(place)
    })
    .await?;
    if traced {
        context.log.notice(&format!("Gitaly correlation ID: {correlation_id}"));
    }
    repository::get(&git, settings).await?;
    submodules::update(&git, settings).await?;
    run_hook(&git, Hook::After).await
}

/// Works in the project's directory on a thread that may wait.
async fn in_directory(
    context: &Context,
    work: impl FnOnce(&Place, Option<User>) -> io::Result<()> + Send + 'static,
) -> Result<(), StageError> {
    let (place, owner) = (context.place.clone(), context.child_user);
    let done = tokio::task::spawn_blocking(move || work(&place, owner))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| {
        let message = format!("the directory `{}` cannot be prepared: {error}", context.place.project_dir.display());
        StageError::new(FailureReason::RunnerSystemFailure, message)
    })
}
