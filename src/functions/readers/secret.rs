//! Reads one secret from Secrets Manager, and reads it again when it is five minutes old.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::ledger::keys::SigningKey;

use super::NotReady;

/// How long a value is used before it is read again.
const FRESH_FOR: Duration = Duration::from_secs(300);
/// How long after a reading that failed the next one is made.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often a value that does not fit is read again: strangers can cause this.
const REREAD_AFTER: Duration = Duration::from_secs(1);
/// The shortest signing key that is taken.
const SHORTEST_KEY: usize = 16;

/// Makes a value of a secret's text and of the last good value; the error is a sentence that quotes nothing secret.
type Parse<T> = fn(&str, Option<&T>) -> Result<T, String>;

/// One secret, as a warm function keeps it.
pub struct SecretReader<T> {
    client: Client,
    arn: String,
    parse: Parse<T>,
    fresh_for: Duration,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<Arc<T>>,
    /// When the next reading is due.
    due: Option<Instant>,
    reread_at: Option<Instant>,
}

impl<T> SecretReader<T> {
    /// The secret at `arn`, read when it is first asked for.
    pub fn new(client: Client, arn: impl Into<String>, parse: Parse<T>) -> Self {
        SecretReader {
            client,
            arn: arn.into(),
            parse,
            fresh_for: FRESH_FOR,
            state: Mutex::new(State { value: None, due: None, reread_at: None }),
        }
    }

    /// The value, at most five minutes old while Secrets Manager answers.
    ///
    /// # Errors
    /// Only when there has never been a good value.
    pub async fn get(&self) -> Result<Arc<T>, NotReady> {
        let mut state = self.state.lock().await;
        if let (Some(value), Some(due)) = (&state.value, state.due)
            && Instant::now() < due
        {
            return Ok(Arc::clone(value));
        }
        let read = self.text("AWSCURRENT").await;
        let parsed = read.and_then(|text| self.parsed(&text, state.value.as_deref()));
        match (parsed, &state.value) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                state.value = Some(Arc::clone(&value));
                state.due = Some(Instant::now() + self.fresh_for);
                Ok(value)
            }
            (Err(why), Some(last)) => {
                error!(secret = %self.arn, "the last good value of a secret stays in force: {why}");
                let last = Arc::clone(last);
                state.due = Some(Instant::now() + RETRY_AFTER.min(self.fresh_for));
                Ok(last)
            }
            (Err(why), None) => Err(why),
        }
    }

    /// The value, read again if the one at hand is `wanting` something; at most once a second.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_unless(&self, wanting: impl Fn(&T) -> bool) -> Result<Arc<T>, NotReady> {
        let value = self.get().await?;
        if !wanting(&value) {
            return Ok(value);
        }
        {
            let mut state = self.state.lock().await;
            let now = Instant::now();
            if state.reread_at.is_none_or(|at| now >= at + REREAD_AFTER) {
                state.reread_at = Some(now);
                state.due = None;
            }
        }
        self.get().await
    }

    fn parsed(&self, text: &str, last: Option<&T>) -> Result<T, NotReady> {
        let parsed = (self.parse)(text, last);
        parsed.map_err(|why| NotReady::NotSetUp(format!("the secret `{}` {why}", self.arn)))
    }

    async fn text(&self, stage: &str) -> Result<String, NotReady> {
        let request = self.client.get_secret_value().secret_id(&self.arn).version_stage(stage);
        match request.send().await {
            Ok(output) => Ok(output.secret_string.unwrap_or_default()),
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                Err(NotReady::NotSetUp(format!("the secret `{}` has no value", self.arn)))
            }
            Err(error) => {
                // Never the whole error: a response that cannot be read holds the secret.
                let reason = error.code().map_or_else(|| without_response(&error), str::to_owned);
                Err(NotReady::Unavailable(format!("the secret `{}` cannot be read: {reason}", self.arn)))
            }
        }
    }
}

impl SecretReader<SigningKey> {
    /// Reads the current and the previous key now, because something was signed with neither of those at hand; at most
    /// once a second. A reading that fails changes nothing.
    pub async fn reread(&self) {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if state.reread_at.is_some_and(|at| now < at + REREAD_AFTER) {
            return;
        }
        state.reread_at = Some(now);
        let (current, previous) = tokio::join!(self.text("AWSCURRENT"), self.text("AWSPREVIOUS"));
        let current = match current.and_then(|text| self.parsed(&text, None)) {
            Ok(key) => key.current,
            Err(why) => {
                error!(secret = %self.arn, "the last good value of a secret stays in force: {why}");
                return;
            }
        };
        let previous = previous.ok().and_then(|text| self.parsed(&text, None).ok()).map(|key| key.current);
        info!(secret = %self.arn, "read a signing key again, for something was signed with another");
        state.value = Some(Arc::new(SigningKey { current, previous }));
        state.due = Some(now + self.fresh_for);
    }
}

fn without_response<E, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(_) => "Secrets Manager cannot be reached",
        SdkError::ResponseError(_) => "an answer that cannot be read",
        SdkError::ConstructionFailure(_) => "the request cannot be made: does the function have credentials?",
        _ => "an error without a code",
    }
    .to_owned()
}

/// A signing key; the one before it stays good for what is signed with it.
pub fn signing_key(text: &str, last: Option<&SigningKey>) -> Result<SigningKey, String> {
    if text.trim().len() < SHORTEST_KEY {
        return Err(format!("holds no key: it needs at least {SHORTEST_KEY} random characters"));
    }
    let current = SecretString::from(text.trim());
    Ok(match last {
        Some(last) => last.followed_by(current),
        None => SigningKey::new(current),
    })
}
