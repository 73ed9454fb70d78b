//! The stages that the helper does itself, in GitLab Runner's words: when each has something to do, its section, its call
//! (runner-behaviour.md §1.2, §2.2).
//!
//! A stage with nothing to do prints nothing, not even its section.

use std::collections::BTreeMap;

use crate::gitlab::Cache;

use super::artifacts;
use super::attempts::attempt;
use super::cache_stage;
use super::context::{Context, StageError};
use super::sources;

/// Gets the sources, behind what a first attempt has left.
pub(super) async fn get_sources(context: &Context) -> Result<(), StageError> {
    let get = async |number| {
        if number == 2 {
            let headline = "Deleting all tracked and untracked files due to source fetch failure";
            let _section = context.log.section("clear_worktree", headline);
            sources::clear_worktree(context).await?;
        }
        let _section = context.log.section("get_sources", "Getting source from Git repository");
        sources::get_sources(context).await
    };
    attempt(context, "GET_SOURCES_ATTEMPTS", get).await
}

/// Restores the job's caches.
pub(super) async fn restore_cache(context: &Context) -> Result<(), StageError> {
    if !context.job.cache.iter().any(Cache::holds_something) {
        return Ok(());
    }
    let restore = async |_| {
        let _section = context.log.section("restore_cache", "Restoring cache");
        cache_stage::restore_cache(context, &context.cache).await
    };
    attempt(context, "RESTORE_CACHE_ATTEMPTS", restore).await
}

/// Fetches the artifacts of earlier jobs.
pub(super) async fn download_artifacts(context: &Context) -> Result<(), StageError> {
    let has_file = |file: &crate::gitlab::ArtifactsFile| !file.filename.is_empty();
    if !context.job.dependencies.iter().any(|dependency| dependency.artifacts_file.as_ref().is_some_and(has_file)) {
        return Ok(());
    }
    let download = async |_| {
        let _section = context.log.section("download_artifacts", "Downloading artifacts");
        artifacts::download_artifacts(context).await
    };
    attempt(context, "ARTIFACT_DOWNLOAD_ATTEMPTS", download).await
}

/// What the stage is called that saves the caches of a job that has failed or not.
pub(super) fn archive_cache_name(failed: bool) -> &'static str {
    if failed { "archive_cache_on_failure" } else { "archive_cache" }
}

/// What the stage is called that hands over the artifacts of a job that has failed or not.
pub(super) fn upload_artifacts_name(failed: bool) -> &'static str {
    if failed { "upload_artifacts_on_failure" } else { "upload_artifacts_on_success" }
}

/// Saves the caches of a job that has failed or not.
pub(super) async fn archive_cache(context: &Context, failed: bool) -> Result<(), StageError> {
    if !context.job.cache.iter().any(|cache| cache.holds_something() && cache.when.matches(failed)) {
        return Ok(());
    }
    let headline = if failed { "Saving cache for failed job" } else { "Saving cache for successful job" };
    let _section = context.log.section(archive_cache_name(failed), headline);
    cache_stage::archive_cache(context, &context.cache, failed).await
}

/// Hands the artifacts of a job that has failed or not to GitLab.
pub(super) async fn upload_artifacts(context: &Context, failed: bool) -> Result<(), StageError> {
    if !context.job.artifacts.iter().any(|a| a.when.matches(failed) && (a.untracked || !a.paths.is_empty())) {
        return Ok(());
    }
    let headline = if failed { "Uploading artifacts for failed job" } else { "Uploading artifacts for successful job" };
    let _section = context.log.section(upload_artifacts_name(failed), headline);
    artifacts::upload_artifacts(context, failed).await
}

/// What git in the image's scripts needs in `environment`, to reach the job's repositories.
pub(super) fn git_environment(context: &Context, environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    sources::git_environment(context, environment)
}
