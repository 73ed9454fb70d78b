//! Fetches the artifacts of earlier jobs and unpacks them into the project (runner-behaviour.md §6.5).

use std::fs::File;
use std::io::{self, Seek};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use reqwest::{Response, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::agent::context::{Context, StageError};
use crate::cache::Unpacked;
use crate::cache::room::Room;
use crate::cache::unpack::UnpackError;
use crate::cache::unzip::unzip;
use crate::gitlab::{Backoff, Dependency, FailureReason, is_transient};

use super::exchange::{Fields, Level, cause, said, tell, words};

const PREFIX: &str = "Downloading artifacts from coordinator...";

/// Brings the artifacts of the job's dependencies, in GitLab's order.
///
/// # Errors
/// When one of them cannot be had: the job must not run without.
pub async fn download_artifacts(context: &Context) -> Result<(), StageError> {
    download_with(context, &Backoff::new(3, Duration::from_secs(1), Duration::from_secs(5))).await
}

/// The same, with these pauses between requests.
pub(super) async fn download_with(context: &Context, requests: &Backoff) -> Result<(), StageError> {
    for dependency in &context.job.dependencies {
        if dependency.artifacts_file.as_ref().is_none_or(|file| file.filename.is_empty()) {
            continue;
        }
        context.log.notice(&format!("Downloading artifacts for {} ({})...", dependency.name, dependency.id));
        let archive = fetch(context, dependency, requests.clone()).await?;
        let unpacked = extract(context, archive).await.map_err(|error| {
            let because = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            failed(dependency, &format!("cannot be unpacked: {error}{because}"))
        })?;
        let (files, bytes) = (unpacked.files, unpacked.bytes);
        context.log.line(&format!("Unpacked {files} files, {bytes} bytes"));
    }
    Ok(())
}

/// The archive in a file without a name.
async fn fetch(context: &Context, dependency: &Dependency, mut pauses: Backoff) -> Result<File, StageError> {
    // Object storage is asked once; where it cannot be reached, GitLab itself can.
    let mut direct = context.variables.flag("FF_USE_DIRECT_DOWNLOAD", true);
    loop {
        let why = match ask(context, dependency, direct).await {
            Ok(archive) => return Ok(archive),
            Err(Unfetched::Now(why)) => return Err(failed(dependency, &why)),
            Err(Unfetched::Later(why)) => why,
        };
        let Some(pause) = pauses.pause(None) else {
            return Err(failed(dependency, &format!("cannot be downloaded: {why}")));
        };
        tokio::time::sleep(pause).await;
        context.log.warning("Retrying...");
        direct = false;
    }
}

enum Unfetched {
    /// No other try would change it.
    Now(String),
    Later(String),
}

async fn ask(context: &Context, dependency: &Dependency, direct: bool) -> Result<File, Unfetched> {
    let (id, token) = (dependency.id, &dependency.token);
    let answer = context.gitlab_artifacts.download_artifacts(id, token, direct).await;
    let response = answer.map_err(|error| {
        tell(&context.log, Level::Warning, &format!("{PREFIX} failed"), &Fields::without_answer(&error, id, token));
        Unfetched::Later(format!("no answer: {}", cause(&error)))
    })?;
    let (status, fields) = (response.status(), Fields::with_host(&response, id, token));
    if status == StatusCode::OK {
        let archive = store(response).await?;
        tell(&context.log, Level::Info, &format!("{PREFIX} ok"), &fields);
        return Ok(archive);
    }
    let refusal = match status {
        StatusCode::UNAUTHORIZED => Some(("unauthorized", "GitLab does not take this job's token for them")),
        StatusCode::FORBIDDEN => {
            Some(("forbidden", "this job may not read them: see the job token's permissions in that project"))
        }
        StatusCode::NOT_FOUND => Some(("not found", "they expired or were erased: run that job again")),
        _ => None,
    };
    let by_storage = direct && !response.url().path().ends_with("/artifacts");
    let level = if refusal.is_some() && !by_storage { Level::Error } else { Level::Warning };
    let told = refusal.map_or("failed", |(told, _)| told);
    tell(&context.log, level, &format!("{PREFIX} {told}"), &fields);
    let words = words(response).await.map(|words| format!(", \"{words}\"")).unwrap_or_default();
    let answered = format!("{} answered {}{words}", if by_storage { "object storage" } else { "GitLab" }, said(status));
    match refusal {
        Some((_, hint)) if !by_storage => Err(Unfetched::Now(format!("cannot be downloaded: {answered}: {hint}"))),
        None if status.is_client_error() && !is_transient(status) && status != StatusCode::CONFLICT => {
            Err(Unfetched::Now(format!("cannot be downloaded: {answered}")))
        }
        _ => Err(Unfetched::Later(answered)),
    }
}

/// Puts the body into a file that has no name and ends with us: a zip's directory stands at its end.
async fn store(mut response: Response) -> Result<File, Unfetched> {
    let disk =
        |error: io::Error| Unfetched::Now(format!("cannot be stored in the helper's temporary directory: {error}"));
    let mut file = tokio::fs::File::from_std(tempfile::tempfile().map_err(disk)?);
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => file.write_all(&bytes).await.map_err(disk)?,
            Ok(None) => break,
            Err(error) => return Err(Unfetched::Later(format!("the download broke off: {}", cause(&error)))),
        }
    }
    file.flush().await.map_err(disk)?;
    let mut file = file.into_std().await;
    file.rewind().map_err(disk)?;
    Ok(file)
}

/// Unpacks beneath the project's directory; what is hostile in the archive stays there.
async fn extract(context: &Context, archive: File) -> Result<Unpacked, UnpackError> {
    let place = &context.place;
    let open = || {
        let builds = Dir::open_ambient_dir(&place.builds_dir, ambient_authority())?;
        let relative = place.project_dir.strip_prefix(&place.builds_dir).map_err(io::Error::other)?;
        builds.create_dir_all(relative)?;
        builds.open_dir(relative)
    };
    let root = open().map_err(|source| UnpackError::Write { path: place.project_dir.clone(), source })?;
    let room = Room::of(&root)?;
    // A job that is cancelled must not be written to any more.
    let _stop = room.stop_on_drop();
    let unpacked = tokio::task::spawn_blocking(move || unzip(&root, room, archive));
    unpacked.await.unwrap_or_else(|error| Err(UnpackError::Read(io::Error::other(error))))
}

fn failed(dependency: &Dependency, why: &str) -> StageError {
    let message = format!("the artifacts of `{}` ({}) {why}", dependency.name, dependency.id);
    StageError { exit_code: Some(1), ..StageError::new(FailureReason::ScriptFailure, message) }
}
