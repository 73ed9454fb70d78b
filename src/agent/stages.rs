//! The stages that the helper does itself, in GitLab Runner's words: when each has something to do, its section, its call
//! (runner-behaviour.md §1.2, §2.2).
//!
//! A stage with nothing to do prints nothing, not even its section.

use crate::cache::object::{CacheSettings, EntryObjects, cache_objects};
use crate::gitlab::Cache;

use super::artifacts;
use super::cache_stage;
use super::context::{Context, StageError};
use super::sources;

/// Gets the sources.
pub(super) async fn get_sources(context: &Context) -> Result<(), StageError> {
    let _section = context.log.section("get_sources", "Getting source from Git repository");
    sources::get_sources(context).await
}

/// Restores the job's caches.
pub(super) async fn restore_cache(context: &Context) -> Result<(), StageError> {
    if !context.job.cache.iter().any(Cache::holds_something) {
        return Ok(());
    }
    let _section = context.log.section("restore_cache", "Restoring cache");
    cache_stage::restore_cache(context, &objects(context)).await
}

/// Fetches the artifacts of earlier jobs.
pub(super) async fn download_artifacts(context: &Context) -> Result<(), StageError> {
    let has_file = |file: &crate::gitlab::ArtifactsFile| !file.filename.is_empty();
    if !context.job.dependencies.iter().any(|dependency| dependency.artifacts_file.as_ref().is_some_and(has_file)) {
        return Ok(());
    }
    let _section = context.log.section("download_artifacts", "Downloading artifacts");
    artifacts::download_artifacts(context).await
}

/// Saves the caches of a job that has failed or not.
pub(super) async fn archive_cache(context: &Context, failed: bool) -> Result<(), StageError> {
    if !context.job.cache.iter().any(|cache| cache.holds_something() && cache.when.matches(failed)) {
        return Ok(());
    }
    let _section = match failed {
        false => context.log.section("archive_cache", "Saving cache for successful job"),
        true => context.log.section("archive_cache_on_failure", "Saving cache for failed job"),
    };
    cache_stage::archive_cache(context, &objects(context), failed).await
}

/// Hands the artifacts of a job that has failed or not to GitLab.
pub(super) async fn upload_artifacts(context: &Context, failed: bool) -> Result<(), StageError> {
    if !context.job.artifacts.iter().any(|a| a.when.matches(failed) && (a.untracked || !a.paths.is_empty())) {
        return Ok(());
    }
    let _section = match failed {
        false => context.log.section("upload_artifacts_on_success", "Uploading artifacts for successful job"),
        true => context.log.section("upload_artifacts_on_failure", "Uploading artifacts for failed job"),
    };
    artifacts::upload_artifacts(context, failed).await
}

/// The environment with which git in the image's scripts reaches the job's repositories.
pub(super) fn git_environment(context: &Context) -> Vec<(String, String)> {
    sources::git_environment(context)
}

fn objects(context: &Context) -> Vec<EntryObjects> {
    // The first is ours; a job may have set it anew behind that, and the broker does not look there.
    let short_token = context.variables.iter().find(|variable| variable.key == "CI_RUNNER_SHORT_TOKEN");
    let short_token = short_token.map(|variable| variable.value.as_str()).unwrap_or_default();
    cache_objects(&context.job, &context.variables, short_token, &CacheSettings::default())
}
