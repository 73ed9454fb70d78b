//! Reads secrets from Secrets Manager, and again when they are five minutes old.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_sdk_secretsmanager::Client;
use secrecy::SecretString;

/// So long a value is used before it is read again.
const FRESH_FOR: Duration = Duration::from_secs(300);

/// Secrets Manager, and when it was last asked.
pub struct SecretStore {
    client: Client,
    read_at: Mutex<Option<Instant>>,
}

impl SecretStore {
    pub fn new(aws: &aws_config::SdkConfig) -> Self {
        SecretStore { client: Client::new(aws), read_at: Mutex::new(None) }
    }

    /// Whether the values should be read again.
    pub fn is_stale(&self) -> bool {
        let read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        read_at.is_none_or(|at| at.elapsed() > FRESH_FOR)
    }

    /// All values were read: only now they count as fresh.
    pub fn refreshed(&self) {
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The text of the secret at `arn`.
    pub async fn text(&self, arn: &str) -> anyhow::Result<SecretString> {
        let output = self.client.get_secret_value().secret_id(arn).send().await;
        let output = output.with_context(|| format!("reading the secret `{arn}`"))?;
        let text = output.secret_string.with_context(|| format!("the secret `{arn}` holds no text"))?;
        Ok(SecretString::from(text))
    }
}
