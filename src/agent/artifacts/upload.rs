//! Hands a job's artifacts and reports to GitLab, packed while they are sent (runner-behaviour.md §6.1).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Body, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use crate::agent::context::{Context, StageError};
use crate::agent::files::{HelperLine, Selection, Wanted, say, select, shell_expand};
use crate::cache::Extra;
use crate::cache::format::Effort;
use crate::gitlab::{Artifact, ArtifactUpload, Backoff, FailureReason, retry_after};

use super::exchange::{Fields, Level, cause, said, tell, words};
use super::pack::{Format, base_name};
use super::pipe;
use super::provenance::provenance;

/// Most tries, and most while GitLab says 503.
const TRIES: u32 = 3;
const TRIES_WHILE_UNAVAILABLE: u32 = 6;

/// So long the packing thread may take to end when the request has ended.
const END_OF_PACKING: Duration = Duration::from_secs(5);

/// So often an upload follows a 307.
const MOST_REDIRECTS: u32 = 3;

/// Uploads what is due in a job that has failed or not.
///
/// One that cannot be uploaded does not keep the others back.
///
/// # Errors
/// The first that could not be uploaded.
pub async fn upload_artifacts(context: &Context, failed: bool) -> Result<(), StageError> {
    let pauses = Backoff::new(TRIES_WHILE_UNAVAILABLE, Duration::from_secs(1), Duration::from_secs(5));
    upload_with(context, failed, &pauses).await
}

/// The same, with these pauses between tries.
pub(super) async fn upload_with(context: &Context, failed: bool, pauses: &Backoff) -> Result<(), StageError> {
    let is_due =
        |artifact: &&Artifact| artifact.when.matches(failed) && (artifact.untracked || !artifact.paths.is_empty());
    let mut result = Ok(());
    for artifact in context.job.artifacts.iter().filter(is_due) {
        context.log.notice("Uploading artifacts...");
        let uploaded = upload(context, artifact, pauses.clone()).await;
        if let Err(error) = &uploaded {
            say(&context.log, &HelperLine::Error(error.message.clone()));
        }
        result = result.and(uploaded);
    }
    result
}

async fn upload(context: &Context, artifact: &Artifact, pauses: Backoff) -> Result<(), StageError> {
    let kind = artifact.artifact_type.clone().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "archive".to_owned());
    let word = artifact.artifact_format.as_deref().unwrap_or_default();
    let format = Format::read(word, &kind).ok_or_else(|| {
        let message = format!("the artifact format `{word}` is not supported: use `zip`, `gzip` or `raw`");
        StageError::new(FailureReason::RunnerConfigurationError, message)
    })?;
    let wanted =
        Wanted { paths: artifact.paths.clone(), exclude: artifact.exclude.clone(), untracked: artifact.untracked };
    let mut selection = select(context, wanted).await.map_err(|error| {
        StageError::new(FailureReason::RunnerSystemFailure, format!("the artifacts cannot be looked for: {error}"))
    })?;
    selection.lines.iter().for_each(|line| say(&context.log, line));
    if !matches!(format, Format::Archive(_)) {
        selection = files_alone(context, selection).await?;
    }
    if selection.paths.is_empty() {
        say(&context.log, &HelperLine::Error("No files to upload".to_owned()));
        return Ok(());
    }
    let name = base_name(&artifact.name, &shell_expand(&artifact.name, &context.environment));
    let wants_provenance = context.variables.flag("RUNNER_GENERATE_ARTIFACTS_METADATA", false);
    let extra = match wants_provenance && format.as_str() == "zip" {
        true => Some(provenance(context, &selection, &name).await?),
        false => None,
    };
    let upload = ArtifactUpload {
        filename: format.file_name(&name),
        artifact_type: kind,
        artifact_format: format.as_str().to_owned(),
        expire_in: artifact.expire_in.clone().filter(|text| !text.is_empty()),
    };
    Sending { context, upload, format, selection, extra }.send(pauses).await
}

/// Without directories, which come along with what is in them, and without links, which lead nobody knows where.
async fn files_alone(context: &Context, mut selection: Selection) -> Result<Selection, StageError> {
    let (selection, links) = tokio::task::spawn_blocking(move || {
        let mut links = Vec::new();
        selection.paths.retain(|path| match selection.root.symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                links.push(path.clone());
                false
            }
            found => found.is_ok_and(|found| found.is_file()),
        });
        (selection, links)
    })
    .await
    .map_err(|error| StageError::new(FailureReason::RunnerSystemFailure, error.to_string()))?;
    for link in links {
        let text = format!("{}: a link is not followed, name the file itself", link.display());
        say(&context.log, &HelperLine::Warning(text));
    }
    Ok(selection)
}

struct Sending<'a> {
    context: &'a Context,
    upload: ArtifactUpload,
    format: Format,
    selection: Selection,
    extra: Option<Extra>,
}

/// Why a try did not succeed.
enum Unsent {
    /// No other try would change it.
    Now(String),
    /// GitLab is unavailable, or something else.
    Later { why: String, unavailable: bool, server_asks: Option<Duration> },
}

impl Sending<'_> {
    async fn send(&self, mut pauses: Backoff) -> Result<(), StageError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let why = match self.try_once().await {
                Ok(()) => return Ok(()),
                Err(Unsent::Now(why)) => why,
                Err(Unsent::Later { why, unavailable, server_asks }) => {
                    let most = if unavailable { TRIES_WHILE_UNAVAILABLE } else { TRIES };
                    match pauses.pause(server_asks).filter(|_| tries < most) {
                        Some(pause) => {
                            tokio::time::sleep(pause).await;
                            self.context.log.warning("Retrying...");
                            continue;
                        }
                        None => why,
                    }
                }
            };
            let ArtifactUpload { filename, artifact_type, .. } = &self.upload;
            let message = format!("the artifacts `{filename}` ({artifact_type}) cannot be uploaded: {why}");
            return Err(StageError { exit_code: Some(1), ..StageError::new(FailureReason::ScriptFailure, message) });
        }
    }

    async fn try_once(&self) -> Result<(), Unsent> {
        let mut location = None;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.post(location).await?;
            if response.status() != StatusCode::TEMPORARY_REDIRECT {
                return self.judge(response).await;
            }
            location = Some(self.redirection(&response)?);
        }
        Err(Unsent::Now(format!("GitLab redirected more than {MOST_REDIRECTS} times")))
    }

    /// Packs and sends at once.
    async fn post(&self, location: Option<Url>) -> Result<Response, Unsent> {
        let root = self.selection.root.try_clone().map_err(|error| Unsent::Now(error.to_string()))?;
        let (format, paths) = (self.format, self.selection.paths.clone());
        let word = self.context.environment.get("ARTIFACT_COMPRESSION_LEVEL").map(String::as_str).unwrap_or_default();
        let (effort, extra) = (Effort::read(word), self.extra.clone());
        let (pieces, packing) = pipe::body(move |out| format.pack(&root, &paths, effort, extra.as_ref(), out));
        let body = Body::wrap_stream(pieces);
        let gitlab = &self.context.gitlab_artifacts;
        let answer = match location {
            None => gitlab.upload_artifact(&self.upload, body).await,
            Some(location) => gitlab.upload_artifact_to(location, &self.upload, body).await,
        };
        // A server may answer before it has all: the packing thread ends when the connection does, and nobody waits.
        let heard = answer.as_ref().is_ok_and(|response| !response.status().is_success());
        match timeout(if heard { Duration::ZERO } else { END_OF_PACKING }, packing).await {
            Ok(Ok(Ok(left_out))) => left_out.iter().for_each(|what| self.warn(what)),
            Ok(Ok(Err(error))) if !error.is_broken_pipe() => return Err(Unsent::Now(error.to_string())),
            Ok(Err(error)) => return Err(Unsent::Now(format!("packing failed: {error}"))),
            Ok(Ok(Err(_))) | Err(_) => {}
        }
        answer.map_err(|error| {
            let (id, token) = (self.context.job.id, &self.context.job.token);
            self.tell(Level::Warning, "failed", &Fields::without_answer(&error, id, token));
            Unsent::Later { why: format!("no answer: {}", cause(&error)), unavailable: false, server_asks: None }
        })
    }

    async fn judge(&self, response: Response) -> Result<(), Unsent> {
        let status = response.status();
        let fields = Fields::of(&response, self.context.job.id, &self.context.job.token);
        if status.is_success() {
            self.tell(Level::Info, &said(status), &fields);
            return Ok(());
        }
        let hint = match status {
            StatusCode::FORBIDDEN => Some("the job is over or was erased, or its token is not taken any more"),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Some("too large: keep less in `artifacts:paths`, or raise the maximum artifacts size in GitLab")
            }
            _ => None,
        };
        let level = if hint.is_some() { Level::Error } else { Level::Warning };
        self.tell(level, &said(status), &fields);
        let server_asks = retry_after(response.headers(), Timestamp::now());
        let words = words(response).await.map(|words| format!(", \"{words}\"")).unwrap_or_default();
        let answered = format!("GitLab answered {}{words}", said(status));
        Err(match hint {
            Some(hint) => Unsent::Now(format!("{answered}: {hint}")),
            None => {
                let unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
                Unsent::Later { why: answered, unavailable, server_asks }
            }
        })
    }

    /// Where a 307 leads; the token does not go from TLS to plain text.
    fn redirection(&self, response: &Response) -> Result<Url, Unsent> {
        let location = response.headers().get("location").and_then(|location| location.to_str().ok());
        let url = location.and_then(|location| response.url().join(location).ok());
        let url = url.filter(|url| url.scheme() == "https" || url.scheme() == response.url().scheme());
        url.ok_or_else(|| Unsent::Now("GitLab redirected to a place that cannot be used".to_owned()))
    }

    fn tell(&self, level: Level, outcome: &str, fields: &Fields) {
        let text = format!("Uploading artifacts as \"{}\" to coordinator... {outcome}", self.upload.artifact_type);
        tell(&self.context.log, level, &text, fields);
    }

    fn warn(&self, text: &str) {
        say(&self.context.log, &HelperLine::Warning(text.to_owned()));
    }
}
