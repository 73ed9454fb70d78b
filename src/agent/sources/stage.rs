//! The stage get_sources: strategy, hooks, attempts (runner-behaviour.md §4.2, §1.2).

use std::io;

use crate::agent::context::{Context, Place, StageError, User};
use crate::gitlab::FailureReason;

use super::hooks::{Hook, run_hook};
use super::repository::{self, Git};
use super::settings::{Settings, Strategy};
use super::{directory, submodules};

/// Brings the sources of the job into its project directory, once.
///
/// # Errors
/// When the job cannot go on without them.
pub async fn get_sources(context: &Context) -> Result<(), StageError> {
    let settings = read_settings(context)?;
    attempt(context, &settings).await
}

/// Takes away what an attempt that failed has left.
///
/// # Errors
/// When it cannot be taken away.
pub async fn clear_worktree(context: &Context) -> Result<(), StageError> {
    if read_settings(context)?.strategy == Strategy::None {
        return Ok(());
    }
    context.log.notice("Deleting tracked and untracked files...");
    in_directory(context, |place, _| directory::empty(place)).await
}

fn read_settings(context: &Context) -> Result<Settings, StageError> {
    Settings::read(context).map_err(|error| StageError::new(FailureReason::RunnerConfigurationError, error.to_string()))
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
