//! Reads the answers of whoever keeps secrets: bounded, and never quoted as a whole.

use http::StatusCode;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::error::SecretError;

/// As much as is read of an answer.
const LONGEST: usize = 1 << 20;

/// A status and what came with it.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

/// Sends `request` to `whom` and reads what it says.
pub(super) async fn send(request: RequestBuilder, whom: &str) -> Result<Reply, SecretError> {
    let silent = |error: reqwest::Error| {
        // The URL may hold what a variable did.
        SecretError::External(format!("{whom} does not answer: {}", cause(&error.without_url())))
    };
    let mut response: Response = request.send().await.map_err(silent)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(silent)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(SecretError::Other(format!("{whom} answers more than {LONGEST} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, body })
}

impl Reply {
    /// The body as JSON; `null` if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A field of a secret as a variable holds it; `None` for `null`.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What somebody else wrote, for a log.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The last cause says what happened; those before it say where.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    printable(&error.to_string())
}
