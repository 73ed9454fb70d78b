//! Reads `fleet.toml` from its bucket: conditionally, at most a minute old, so that a change needs no restart.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::config::{Fleet, FleetError, Stack};
use crate::gitlab::holds_certificates;

use super::NotReady;

/// How long a reading counts.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// How long a missing or unreadable document counts as such: strangers can ask the broker.
const MISSING_FOR: Duration = Duration::from_secs(2);

/// The document of one stack.
pub struct FleetReader {
    s3: Client,
    bucket: String,
    key: String,
    stack: Stack,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    due: Option<Instant>,
    /// Of the document as it was last read, good or not.
    etag: Option<String>,
    fleet: Option<Arc<Fleet>>,
    problem: Option<NotReady>,
}

/// What one reading found.
enum Found {
    Unchanged,
    Document { etag: Option<String>, text: String },
    Missing,
}

impl FleetReader {
    /// The document at `place`, an `s3://bucket/key` URL, of a deployed `stack`.
    ///
    /// # Errors
    /// When `place` is not such a URL.
    pub fn new(s3: Client, place: &str, stack: Stack) -> Result<Self, NotReady> {
        let parts = place.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
        let Some((bucket, key)) = parts.filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()) else {
            return Err(NotReady::Unavailable(format!("`{place}` is not an `s3://bucket/key` URL")));
        };
        Ok(FleetReader { s3, bucket: bucket.into(), key: key.into(), stack, state: Mutex::default() })
    }

    /// The fleet, at most a minute old while S3 answers.
    ///
    /// # Errors
    /// Only when there has never been a good document.
    pub async fn get(&self) -> Result<Arc<Fleet>, NotReady> {
        let mut state = self.state.lock().await;
        if state.due.is_none_or(|due| Instant::now() >= due) {
            self.refresh(&mut state).await;
        }
        match (&state.fleet, &state.problem) {
            (Some(fleet), _) => Ok(Arc::clone(fleet)),
            (None, Some(problem)) => Err(problem.clone()),
            (None, None) => Err(self.missing()),
        }
    }

    async fn refresh(&self, state: &mut State) {
        let problem = match self.read(state.etag.as_deref()).await {
            Ok(Found::Unchanged) => {
                state.due = Some(Instant::now() + FRESH_FOR);
                return;
            }
            Ok(Found::Document { etag, text }) => {
                state.etag = etag;
                match self.parse(&text) {
                    Ok(fleet) => {
                        announce(state.fleet.as_deref(), &fleet);
                        state.fleet = Some(Arc::new(fleet));
                        state.problem = None;
                        state.due = Some(Instant::now() + FRESH_FOR);
                        return;
                    }
                    Err(problem) => problem,
                }
            }
            Ok(Found::Missing) => self.missing(),
            Err(problem) => problem,
        };
        if state.fleet.is_some() {
            error!("the last good fleet configuration stays in force: {problem}");
        }
        let pause = if state.fleet.is_some() { FRESH_FOR } else { MISSING_FOR };
        state.due = Some(Instant::now() + pause);
        state.problem = Some(problem);
    }

    async fn read(&self, etag: Option<&str>) -> Result<Found, NotReady> {
        let request = self.s3.get_object().bucket(&self.bucket).key(&self.key);
        let output = match request.set_if_none_match(etag.map(str::to_owned)).send().await {
            Ok(output) => output,
            Err(error) => {
                return match status(&error) {
                    Some(304) => Ok(Found::Unchanged),
                    Some(404) => Ok(Found::Missing),
                    status => Err(self.unreadable(&reason(status, &error))),
                };
            }
        };
        let etag = output.e_tag().map(str::to_owned);
        let body = output.body.collect().await.map_err(|error| self.unreadable(&error.to_string()))?;
        let text = String::from_utf8(body.to_vec()).map_err(|_| self.wrong("it is not UTF-8"))?;
        Ok(Found::Document { etag, text })
    }

    fn parse(&self, text: &str) -> Result<Fleet, NotReady> {
        let fleet = Fleet::read_in(&self.stack, text).map_err(|error| self.wrong(&in_a_line(&error, text)))?;
        let damaged = fleet
            .runners
            .iter()
            .find(|runner| runner.tls_ca.as_ref().is_some_and(|pem| !holds_certificates(pem.as_bytes())));
        match damaged {
            Some(runner) => Err(self.wrong(&format!("`tls_ca` of runner `{}` cannot be trusted", runner.name))),
            None => Ok(fleet),
        }
    }

    fn missing(&self) -> NotReady {
        let (bucket, key) = (&self.bucket, &self.key);
        NotReady::NotSetUp(format!("there is no `{key}`; run `aws s3 cp fleet.toml s3://{bucket}/{key}`"))
    }

    fn wrong(&self, why: &str) -> NotReady {
        NotReady::NotSetUp(format!("`s3://{}/{}`: {why}", self.bucket, self.key))
    }

    fn unreadable(&self, why: &str) -> NotReady {
        NotReady::Unavailable(format!("`s3://{}/{}` cannot be read: {why}", self.bucket, self.key))
    }
}

fn announce(old: Option<&Fleet>, new: &Fleet) {
    match old {
        None => info!(runners = new.runners.len(), "read the fleet configuration: {} runners", new.runners.len()),
        Some(old) => {
            let changes = old.changes(new).join(", ");
            info!(changes, "read a new fleet configuration: {changes}");
        }
    }
}

/// The error in one line, without the document's own text, in which a secret may stand by mistake.
fn in_a_line(error: &FleetError, text: &str) -> String {
    match error {
        FleetError::Wrong(sentence) => sentence.clone(),
        FleetError::Unreadable(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        }
    }
}

fn reason(status: Option<u16>, error: &SdkError<GetObjectError>) -> String {
    match (error.code(), status) {
        (Some(code), _) => code.to_owned(),
        (None, Some(status)) => format!("S3 answers {status}"),
        (None, None) => DisplayErrorContext(error).to_string(),
    }
}

fn status(error: &SdkError<GetObjectError>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
