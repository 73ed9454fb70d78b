//! Talks to GitLab about one job with its job token: state, trace, tags, artifacts.
//!
//! Every call is one request; who calls decides with [`Backoff`](super::Backoff) whether to repeat it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use reqwest::{Body, Client, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::retry::{is_transient, retry_after};
use super::runner_client::api_url;
use super::{FailureReason, Outcome};

/// What GitLab says about the job in `Job-Status` (gitlab-protocol.md §5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Go on.
    Running,
    /// Somebody cancelled it: `after_script` still runs, then it ends.
    Canceling,
    /// It is over, whatever we do; the word is GitLab's.
    Over(String),
}

/// An accepted PUT.
#[derive(Clone, Debug)]
pub struct UpdateAnswer {
    /// The job's state in GitLab.
    pub status: JobStatus,
    /// 200: it is written. Otherwise (202) the same PUT must be sent again.
    pub done: bool,
    /// When to send next, if the server says so.
    pub interval: Option<Duration>,
}

/// Why an update was not accepted.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// 403: the job is over, or not ours; nothing will ever be accepted again. Without a status it may also be
    /// somebody in front of GitLab who does not like a piece of the trace.
    #[error("GitLab says that the job is over ({})", .status.as_deref().unwrap_or("no longer ours"))]
    Over {
        /// The final state, where GitLab told it.
        status: Option<String>,
    },
    /// 412: GitLab wants the whole trace again.
    #[error("GitLab wants the whole trace again")]
    ResendTrace,
    /// A refusal that repeating does not change.
    #[error("GitLab refuses the update with {0}")]
    Refused(StatusCode),
    /// 429, 5xx.
    #[error("GitLab answered {status} for now")]
    Unavailable {
        /// The answer.
        status: StatusCode,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer; it may have been applied.
    #[error("no answer from GitLab")]
    Transport(#[from] reqwest::Error),
}

impl UpdateError {
    /// How long to wait before another try where the server said so; `None` where none helps.
    pub fn retry(&self) -> Option<Option<Duration>> {
        match self {
            UpdateError::Unavailable { retry_after, .. } => Some(*retry_after),
            UpdateError::Transport(_) => Some(None),
            UpdateError::Over { .. } | UpdateError::Refused(_) | UpdateError::ResendTrace => None,
        }
    }
}

/// An accepted PATCH.
#[derive(Clone, Debug)]
pub struct TraceAnswer {
    /// The job's state in GitLab.
    pub status: JobStatus,
    /// The bytes that GitLab has now: the next offset.
    pub stored: u64,
    /// When to send next, if the server says so.
    pub interval: Option<Duration>,
}

/// Why a piece of trace was not accepted.
#[derive(Debug, Error)]
pub enum TraceError {
    /// 416: GitLab has this many bytes; go on there, be it back or forward.
    #[error("GitLab has {stored} bytes of the trace")]
    Mismatch {
        /// The next offset.
        stored: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// An upload of artifacts.
#[derive(Clone, Debug, Default)]
pub struct ArtifactUpload {
    /// The file name that GitLab keeps.
    pub filename: String,
    /// `archive` or a report's type.
    pub artifact_type: String,
    /// `zip`, `gzip` or `raw`.
    pub artifact_format: String,
    /// Verbatim from the job.
    pub expire_in: Option<String>,
}

/// GitLab's API for one job.
#[derive(Clone, Debug)]
pub struct JobClient {
    http: Client,
    api: Url,
    job_id: u64,
    token: SecretString,
}

#[derive(Serialize)]
struct Update<'a> {
    token: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<FailureReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    checksum: &'a str,
    bytesize: u64,
}

#[derive(Deserialize)]
struct JobEntity {
    #[serde(default)]
    tag_list: Vec<String>,
}

impl JobClient {
    /// GitLab's host.
    pub fn host(&self) -> &str {
        self.api.host_str().unwrap_or_default()
    }

    /// A client for job `job_id` of the GitLab at `instance`.
    pub fn new(http: Client, instance: &Url, job_id: u64, token: SecretString) -> Self {
        JobClient { http, api: api_url(instance), job_id, token }
    }

    /// Says that the job goes on, and hears whether it was cancelled.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn keep_alive(&self) -> Result<UpdateAnswer, UpdateError> {
        self.put(&self.update("running")).await
    }

    /// Says how the job ended, with the CRC-32 and size of the trace as it was sent (gitlab-protocol.md §5.1).
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn finish(&self, outcome: &Outcome, crc32: u32, bytesize: u64) -> Result<UpdateAnswer, UpdateError> {
        let checksum = format!("crc32:{crc32:08x}");
        let mut update = self.update(outcome.state());
        update.checksum = Some(&checksum);
        update.output = Some(Output { checksum: &checksum, bytesize });
        if let Outcome::Failed { reason, exit_code, .. } = outcome {
            update.failure_reason = Some(*reason);
            update.exit_code = exit_code.filter(|code| *code != 0);
        }
        self.put(&update).await
    }

    /// Appends `bytes` to the trace at `offset`.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub async fn append_trace(&self, offset: u64, bytes: Bytes, debug: bool) -> Result<TraceAnswer, TraceError> {
        let last = offset + (bytes.len() as u64).saturating_sub(1);
        let request = self
            .http
            .patch(self.url(&format!("jobs/{}/trace", self.job_id)))
            .query(&[("debug_trace", debug)])
            .header("JOB-TOKEN", self.token.expose_secret())
            .header("Content-Type", "text/plain")
            .header("Content-Range", format!("{offset}-{last}"));
        let end = offset + bytes.len() as u64;
        let response = request.body(bytes).send().await.map_err(UpdateError::from)?;
        match response.status() {
            StatusCode::ACCEPTED => Ok(TraceAnswer {
                status: job_status(response.headers()),
                stored: stored(response.headers()).unwrap_or(end),
                interval: interval(response.headers()),
            }),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(TraceError::Mismatch { stored: stored(response.headers()).unwrap_or(0) })
            }
            // Another writer has the lock for a moment (gitlab-protocol.md §6.1).
            StatusCode::CONFLICT => {
                Err(UpdateError::Unavailable { status: StatusCode::CONFLICT, retry_after: None }.into())
            }
            _ => Err(refusal(&response).into()),
        }
    }

    /// The job's own tags, from `GET /job`; right after the claim GitLab may not know the token yet (401, 404).
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn tags(&self) -> Result<Vec<String>, UpdateError> {
        let request = self.http.get(self.url("job")).header("JOB-TOKEN", self.token.expose_secret());
        let response = request.send().await?;
        match response.status() {
            StatusCode::OK => Ok(response.json::<JobEntity>().await?.tag_list),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => {
                Err(UpdateError::Unavailable { status, retry_after: None })
            }
            _ => Err(refusal(&response)),
        }
    }

    /// Uploads `body` as an artifact; the answer is GitLab's, whatever its status.
    ///
    /// # Errors
    /// When there was no answer, which also is the case if `body` failed on the way.
    pub async fn upload_artifact(&self, upload: &ArtifactUpload, body: Body) -> Result<Response, reqwest::Error> {
        let mut query = vec![
            ("artifact_format", upload.artifact_format.as_str()),
            ("artifact_type", upload.artifact_type.as_str()),
        ];
        if let Some(expire_in) = &upload.expire_in {
            query.push(("expire_in", expire_in));
        }
        let request = self.http.post(self.url(&format!("jobs/{}/artifacts", self.job_id))).query(&query);
        self.send_artifact(request, upload, body).await
    }

    /// The same at the place that a 307 named: its query says all that ours did.
    ///
    /// # Errors
    /// See [`JobClient::upload_artifact`].
    pub async fn upload_artifact_to(
        &self,
        location: Url,
        upload: &ArtifactUpload,
        body: Body,
    ) -> Result<Response, reqwest::Error> {
        self.send_artifact(self.http.post(location), upload, body).await
    }

    async fn send_artifact(
        &self,
        request: RequestBuilder,
        upload: &ArtifactUpload,
        body: Body,
    ) -> Result<Response, reqwest::Error> {
        let part = reqwest::multipart::Part::stream(body).file_name(upload.filename.clone());
        let part = part.mime_str("application/octet-stream")?;
        request
            .header("JOB-TOKEN", self.token.expose_secret())
            .multipart(reqwest::multipart::Form::new().part("file", part))
            .timeout(ARTIFACT_TIMEOUT)
            .send()
            .await
    }

    /// Asks for the artifacts of job `dependency`, opened by `token`; a redirect to object storage is followed without it.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn download_artifacts(
        &self,
        dependency: u64,
        token: &SecretString,
        direct: bool,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self.http.get(self.url(&format!("jobs/{dependency}/artifacts")));
        if direct {
            request = request.query(&[("direct_download", "true")]);
        }
        let response = request.header("JOB-TOKEN", token.expose_secret()).timeout(ARTIFACT_TIMEOUT).send().await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let location = response.headers().get("location").and_then(|l| l.to_str().ok());
        match location.and_then(|l| response.url().join(l).ok()) {
            Some(url) => self.http.get(url).timeout(ARTIFACT_TIMEOUT).send().await,
            None => Ok(response),
        }
    }

    fn update<'a>(&'a self, state: &'a str) -> Update<'a> {
        let token = self.token.expose_secret();
        Update { token, state, failure_reason: None, exit_code: None, checksum: None, output: None }
    }

    async fn put(&self, update: &Update<'_>) -> Result<UpdateAnswer, UpdateError> {
        let request = self.http.put(self.url(&format!("jobs/{}", self.job_id)));
        let response = request.header("JOB-TOKEN", self.token.expose_secret()).json(update).send().await?;
        match response.status() {
            status @ (StatusCode::OK | StatusCode::ACCEPTED) => Ok(UpdateAnswer {
                status: job_status(response.headers()),
                done: status == StatusCode::OK,
                interval: interval(response.headers()),
            }),
            StatusCode::PRECONDITION_FAILED => Err(UpdateError::ResendTrace),
            _ => Err(refusal(&response)),
        }
    }

    fn url(&self, path: &str) -> Url {
        self.api.join(path).expect("a relative path of digits and letters joins any API URL")
    }
}

/// An upload or download may take this long (runner-behaviour.md §6.1).
const ARTIFACT_TIMEOUT: Duration = Duration::from_secs(3600);

fn job_status(headers: &HeaderMap) -> JobStatus {
    match headers.get("job-status").and_then(|s| s.to_str().ok()) {
        Some("canceling") => JobStatus::Canceling,
        Some(over @ ("canceled" | "failed")) => JobStatus::Over(over.to_owned()),
        _ => JobStatus::Running,
    }
}

/// The server's wish for the next update; nonsense is ignored, 15 minutes is the most (gitlab-protocol.md §6.2).
fn interval(headers: &HeaderMap) -> Option<Duration> {
    let seconds: i64 = headers.get("x-gitlab-trace-update-interval")?.to_str().ok()?.trim().parse().ok()?;
    u64::try_from(seconds).ok().filter(|s| *s > 0).map(|s| Duration::from_secs(s.min(900)))
}

/// The exclusive end in `Range: 0-N` (gitlab-protocol.md §6.1).
fn stored(headers: &HeaderMap) -> Option<u64> {
    headers.get("range")?.to_str().ok()?.rsplit_once('-')?.1.trim().parse().ok()
}

fn refusal(response: &Response) -> UpdateError {
    let status = response.status();
    match status {
        StatusCode::FORBIDDEN => {
            let over = response.headers().get("job-status").and_then(|s| s.to_str().ok()).map(str::to_owned);
            UpdateError::Over { status: over }
        }
        // GitLab never says 404 about a job (gitlab-protocol.md §5.2): something in front of it does, for now.
        status if is_transient(status) || status == StatusCode::NOT_FOUND => {
            UpdateError::Unavailable { status, retry_after: retry_after(response.headers(), Timestamp::now()) }
        }
        status => UpdateError::Refused(status),
    }
}
