//! Reads GitLab's answers about artifacts and tells them as GitLab Runner's helper does (runner-behaviour.md §6.6).

use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use crate::agent::files::{HelperLine, one_line, say_with};
use crate::agent::log::JobLog;
use crate::gitlab::short_token;

/// As much of an answer is read for its words.
const LONGEST_ANSWER: usize = 4096;

/// How an exchange went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Info,
    Warning,
    Error,
}

/// What stands behind a line, in the alphabet's order.
#[derive(Clone, Debug)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Of an answer to a download of job `id`'s artifacts: it may come from elsewhere than GitLab.
    pub(super) fn with_host(response: &Response, id: u64, token: &SecretString) -> Self {
        let mut fields = Fields::of(response, id, token);
        let host = ("host", response.url().host_str().unwrap_or_default().to_owned());
        fields.0.insert(fields.0.iter().take_while(|(key, _)| *key < "host").count(), host);
        fields
    }

    /// Of an answer that concerns job `id`.
    pub(super) fn of(response: &Response, id: u64, token: &SecretString) -> Self {
        let mut fields = Vec::new();
        if let Some(correlation_id) = response.headers().get("x-request-id").and_then(|value| value.to_str().ok()) {
            fields.push(("correlation_id", correlation_id.to_owned()));
        }
        fields.push(("id", id.to_string()));
        fields.push(("responseStatus", said(response.status())));
        fields.push(("token", short_token(token.expose_secret())));
        Fields(fields)
    }

    /// Of an exchange without an answer.
    pub(super) fn without_answer(error: &reqwest::Error, id: u64, token: &SecretString) -> Self {
        Fields(vec![("error", cause(error)), ("id", id.to_string()), ("token", short_token(token.expose_secret()))])
    }
}

/// Writes one line.
pub(super) fn tell(log: &JobLog, level: Level, text: &str, fields: &Fields) {
    let line = match level {
        Level::Info => HelperLine::Info(text.to_owned()),
        Level::Warning => HelperLine::Warning(text.to_owned()),
        Level::Error => HelperLine::Error(text.to_owned()),
    };
    say_with(log, &line, &fields.0);
}

/// A status with its name: `201 Created`.
pub(super) fn said(status: StatusCode) -> String {
    status.to_string()
}

/// The innermost reason: `connection refused` rather than "error sending request".
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The words of a refusal, on one line: GitLab's `message`, else the body's beginning; nothing if it has none.
pub(super) async fn words(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes[..bytes.len().min(LONGEST_ANSWER - body.len())]);
        if body.len() == LONGEST_ANSWER {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body);
    let json = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str().or(json["error"].as_str()));
    let words = one_line(message.unwrap_or(&text));
    Some(words).filter(|words| !words.is_empty())
}
