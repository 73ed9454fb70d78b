//! The webhook: a genuine hook becomes a message to the dispatcher. Holds no state.

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use tracing::{info, warn};

use crate::gitlab::{Hook, Verdict, WebhookSecrets, read_hook, verify};

use super::Event;

/// What GitLab hears, and what the dispatcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookAnswer {
    /// 200, 400 or 401.
    pub status: StatusCode,
    /// A sentence for the person who looks at GitLab's list of deliveries.
    pub message: String,
    /// Must be on the queue before the answer goes out.
    pub event: Option<Event>,
}

/// The largest hook that is read; real ones have some ten KiB.
const BODY_LIMIT: usize = 1 << 20;

/// Answers one request. `body` are the raw bytes: what was base64 on the way must be decoded before.
pub fn answer_hook(secrets: &WebhookSecrets, headers: &HeaderMap, body: &[u8], now: Timestamp) -> WebhookAnswer {
    let answer = |status, message: &str, event| WebhookAnswer { status, message: message.to_owned(), event };
    let verdict = verify(secrets, headers, body, now);
    if verdict != Verdict::Genuine {
        warn!(hook.verdict = ?verdict, "refused a hook: {verdict}");
        return answer(StatusCode::UNAUTHORIZED, &verdict.to_string(), None);
    }
    if body.len() > BODY_LIMIT {
        return answer(StatusCode::BAD_REQUEST, "a hook of over 1 MiB is none that Mayfly needs", None);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let instance = text("x-gitlab-instance").map(str::to_owned);
    match read_hook(text("x-gitlab-event"), body) {
        Err(error) => {
            warn!(hook.error = %error, "a genuine hook cannot be read");
            answer(StatusCode::BAD_REQUEST, &error.to_string(), None)
        }
        Ok(Hook::Uninteresting) => answer(StatusCode::OK, "nothing to do", None),
        Ok(hook) => {
            info!(hook = ?hook, "a hook rang");
            answer(StatusCode::OK, "heard", event(hook, instance))
        }
    }
}

fn event(hook: Hook, instance: Option<String>) -> Option<Event> {
    match hook {
        Hook::Pending { jobs } => Some(Event::Knock { instance, jobs }),
        Hook::Running { job, runner: Some(runner) } => Some(Event::Running { instance, job, runner }),
        Hook::Finished { job } => Some(Event::Finished { instance, job }),
        Hook::Running { runner: None, .. } | Hook::Uninteresting => None,
    }
}
