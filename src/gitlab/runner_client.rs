//! Talks to GitLab's runner API with the runner token: verify and claim.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::http::{HttpError, Sender, http_client_with};
use super::retry::is_transient;
use super::{Features, features};

/// A claim can wait this long for its answer: GitLab has handed the job out before it writes the first byte.
const CLAIM_READ_TIMEOUT: Duration = Duration::from_secs(120);

/// The largest claim that is taken.
const CLAIM_LIMIT: usize = 32 << 20;

/// How we introduce ourselves; the same from the first contact on (gitlab-protocol.md §2.4).
#[derive(Clone, Debug)]
pub struct SystemInfo {
    /// `r_` and 12 characters, one per deployment.
    pub system_id: String,
}

/// What a claim brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// 201: a job is ours. The body is untouched: it must be stored before anything else.
    Job(Bytes),
    /// 204: there is none, or we are paused.
    Nothing,
    /// 409: there may be one; ask again soon.
    AskAgain,
}

/// Why GitLab did not answer a runner request.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// 403 or 422: the token is not (or no longer) a runner's.
    #[error("GitLab refuses the runner token with {0}: is the runner deleted, or its token reset?")]
    Forbidden(StatusCode),
    /// 429, 5xx: later.
    #[error("GitLab answered {0} for now")]
    Unavailable(StatusCode),
    /// An answer that this endpoint never gives.
    #[error("GitLab answered {0}, which a runner API never does; is the URL right?")]
    Unexpected(StatusCode),
    /// No answer. A claim may have succeeded without our knowing.
    #[error("no answer from GitLab")]
    Transport(#[from] reqwest::Error),
}

/// A runner, as GitLab knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct VerifiedRunner {
    /// GitLab's id of the runner.
    pub id: u64,
}

/// The runner API of one GitLab, for one runner.
#[derive(Clone, Debug)]
pub struct RunnerClient {
    http: Client,
    api: Url,
    token: SecretString,
    system: SystemInfo,
}

#[derive(Serialize)]
struct RunnerRequest<'a> {
    token: &'a str,
    system_id: &'a str,
    info: Info,
}

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    revision: &'static str,
    platform: &'static str,
    architecture: &'static str,
    executor: &'static str,
    shell: &'static str,
    features: Features,
}

impl RunnerClient {
    /// A client for the runner with `token` on the GitLab at `instance`, which is also trusted by the PEM certificates
    /// `tls_ca`.
    ///
    /// Connections are not kept: a thawed Lambda would send a claim into a dead one (aws.md §13).
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        instance: &Url,
        token: SecretString,
        system: SystemInfo,
        tls_ca: Option<&str>,
    ) -> Result<Self, HttpError> {
        let http = http_client_with(Sender::Dispatcher, tls_ca.unwrap_or_default().as_bytes(), |builder| {
            builder.read_timeout(CLAIM_READ_TIMEOUT).pool_max_idle_per_host(0)
        })?;
        Ok(RunnerClient { http, api: api_url(instance), token, system })
    }

    /// Asks for one job. Never sends `last_update`: it can hide a job that waits (gitlab-protocol.md §3.5).
    ///
    /// # Errors
    /// See [`RunnerError`]; after [`RunnerError::Transport`] a job may be ours without our having its token.
    pub async fn claim(&self) -> Result<Claimed, RunnerError> {
        let response = self.post("jobs/request").await?;
        match response.status() {
            StatusCode::CREATED => Ok(Claimed::Job(read_claim(response).await?)),
            StatusCode::NO_CONTENT => Ok(Claimed::Nothing),
            StatusCode::CONFLICT => Ok(Claimed::AskAgain),
            other => Err(refusal(other)),
        }
    }

    /// Checks the token, and makes GitLab remember our features (gitlab-protocol.md §2.4).
    ///
    /// # Errors
    /// See [`RunnerError`].
    pub async fn verify(&self) -> Result<VerifiedRunner, RunnerError> {
        let response = self.post("runners/verify").await?;
        match response.status() {
            StatusCode::OK => Ok(response.json().await?),
            other => Err(refusal(other)),
        }
    }

    async fn post(&self, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        let url = self.api.join(path).expect("a constant path joins any API URL");
        let body = RunnerRequest {
            token: self.token.expose_secret(),
            system_id: &self.system.system_id,
            info: Info {
                name: "mayfly",
                version: env!("CARGO_PKG_VERSION"),
                revision: "mayfly",
                platform: "linux",
                architecture: "amd64",
                // The server knows a closed list of executors; ours behaves as this one (gitlab-protocol.md §2.4).
                executor: "kubernetes",
                shell: "bash",
                features: features(),
            },
        };
        let request = self.http.post(url).header("RUNNER-TOKEN", self.token.expose_secret());
        request.header("Accept", "application/json").json(&body).send().await
    }
}

/// `<instance>/api/v4/`, for instances below a path, too.
pub(super) fn api_url(instance: &Url) -> Url {
    let mut base = instance.clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base.join("api/v4/").expect("a constant path joins any URL with a host")
}

/// Reads as much of the claim as comes: a body that is cut off still names its job.
async fn read_claim(mut response: reqwest::Response) -> Result<Bytes, RunnerError> {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= CLAIM_LIMIT => body.extend_from_slice(&chunk),
            Ok(Some(_)) | Ok(None) => break,
            Err(error) if body.is_empty() => return Err(error.into()),
            Err(_) => break,
        }
    }
    if !json {
        tracing::warn!(bytes = body.len(), "a claim's answer does not call itself JSON; reading it all the same");
    }
    Ok(body.into())
}

fn refusal(status: StatusCode) -> RunnerError {
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => RunnerError::Forbidden(status),
        status if is_transient(status) => RunnerError::Unavailable(status),
        status => RunnerError::Unexpected(status),
    }
}
