//! `PATCH /jobs/:id/trace`: the next bytes of a job's log (gitlab-protocol.md §6).

use std::sync::Arc;

use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::http::header::RANGE;
use axum::response::{IntoResponse, Response};

use super::authenticate::{self, UPDATE_INTERVAL, interval, job_status};
use crate::sandbox::gitlab::call::{Call, message};
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::{Job, State};
use crate::sandbox::gitlab::strict::{self, Declared};

const DECLARED: Declared = Declared { fields: &["token", "debug_trace"], tokens: &["job-token"] };
/// No official client sends more than 1 MiB at once (§6.2); this only bounds our memory.
const MAX_BODY: usize = 32 * 1024 * 1024;

pub(in crate::sandbox::gitlab) async fn append(
    Extract(shared): Extract<Arc<Shared>>,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let call = Call::head(&parts);
    strict::check(&shared, &call, &DECLARED)?;
    let too_large = |_| message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    let bytes = to_bytes(body, MAX_BODY).await.map_err(too_large)?;
    shared.change(|state| apply(state, id, &call, &bytes))
}

fn apply(state: &mut State, id: u64, call: &Call, bytes: &Bytes) -> Result<Response, Response> {
    let (now, limit) = (state.clock.now(), state.trace_limit);
    let job = authenticate::job(state, id, call.job_token())?;
    let range =
        call.header("content-range").ok_or_else(|| message(StatusCode::BAD_REQUEST, "Missing header Content-Range"))?;
    let Some(start) = start_of(range) else {
        return Err(message(StatusCode::BAD_REQUEST, "Malformed header Content-Range"));
    };
    let stored = job.trace.len() as u64;
    if start != stored {
        // E9: too small and too big both hear where to go on.
        let range = [(RANGE, format!("0-{stored}"))];
        return Err((range, message(StatusCode::RANGE_NOT_SATISFIABLE, "Range Not Satisfiable")).into_response());
    }
    if stored + bytes.len() as u64 > limit {
        // §6.2: the job is dropped, and the runner hears it as 403.
        state.drop_job(id, "trace_size_exceeded");
        let refusal = message(StatusCode::FORBIDDEN, "Forbidden - Trace size exceeded");
        return Err(match state.jobs.get(&id) {
            Some(job) => (job_status(job), refusal).into_response(),
            None => refusal,
        });
    }
    if start == 0 {
        job.debug_trace = call.text("debug_trace") == Some("true");
    }
    let hidden = hide_secrets(job, bytes);
    job.trace.extend_from_slice(&hidden);
    job.touch(now);
    let end = job.trace.len();
    let answer = (
        StatusCode::ACCEPTED,
        job_status(job),
        // §6.1: the end is exclusive: the next offset.
        [(RANGE, format!("0-{end}"))],
        [(UPDATE_INTERVAL, interval(job))],
        Json(202),
    )
        .into_response();
    state.heartbeat(id);
    Ok(answer)
}

/// The start of `<start>-<last>`; GitLab counts the end itself (§6.1).
fn start_of(range: &str) -> Option<u64> {
    let (start, rest) = range.split_once('-')?;
    let last = rest.split_once('/').map_or(rest, |(last, _)| last);
    last.parse::<i64>().ok()?;
    start.parse().ok()
}

/// §6.1: GitLab hides the job token itself, in its length, so that offsets stay.
fn hide_secrets(job: &mut Job, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let token = job.token.clone().unwrap_or_default().into_bytes();
    if token.len() < 8 {
        return bytes;
    }
    let mut at = 0;
    while at + token.len() <= bytes.len() {
        if bytes[at..].starts_with(&token) {
            bytes[at..at + token.len()].fill(b'x');
            bytes[at..at + 8].copy_from_slice(b"[MASKED]");
            job.hidden_secrets += 1;
            at += token.len();
        } else {
            at += 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_of_a_range_counts() {
        assert_eq!(start_of("12-20"), Some(12));
        assert_eq!(start_of("0-4/5"), Some(0));
        assert_eq!(start_of("0--1"), Some(0));
        assert_eq!(["12", "a-b", "", "-5", "1-"].map(start_of), [None; 5]);
    }
}
