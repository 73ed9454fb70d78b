//! `PUT /jobs/:id`: a runner says how its job goes (gitlab-protocol.md §5).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::authenticate::{self, UPDATE_INTERVAL, interval, job_status};
use crate::sandbox::gitlab::call::{Call, message};
use crate::sandbox::gitlab::crc;
use crate::sandbox::gitlab::faults::later;
use crate::sandbox::gitlab::reasons::known;
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::{Outcome, PendingState, State};
use crate::sandbox::gitlab::status::Status;
use crate::sandbox::gitlab::strict::{self, Declared, with_info};

/// §5.1.
const DECLARED: Declared = Declared {
    fields: with_info![
        "token",
        "state",
        "failure_reason",
        "exit_code",
        "output.checksum",
        "output.bytesize",
        "checksum",
        "runtime_environment_key",
    ],
    tokens: &["job-token"],
};
/// How long a final state waits for its log (§5.3).
const WAITS_FOR_LOG: Duration = Duration::from_secs(5 * 60);

pub(in crate::sandbox::gitlab) async fn update(
    Extract(shared): Extract<Arc<Shared>>,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &DECLARED)?;
    let token = call.required("token")?.to_owned();
    shared.change(|state| apply(state, id, &token, &call))
}

fn apply(state: &mut State, id: u64, token: &str, call: &Call) -> Result<Response, Response> {
    let now = state.clock.now();
    let job = authenticate::job(state, id, Some(token))?;
    let status = match call.text("state") {
        Some("running") => {
            job.touch(now);
            let answer = (job_status(job), Json(200)).into_response();
            state.heartbeat(id);
            return Ok(answer);
        }
        Some("success") => Status::Success,
        Some("failed") => Status::Failed,
        // E13, and every state that GitLab does not know.
        _ => {
            return Err((job_status(job), message(StatusCode::BAD_REQUEST, "Bad request - Unknown build state"))
                .into_response());
        }
    };
    let outcome = outcome(status, call);
    let Some((checksum, bytesize)) = checksum(call) else {
        // §5.3: without a checksum it is applied at once.
        return Ok(finish(state, id, outcome));
    };
    // §5.3: the first final state wins; a different later one is ignored.
    let pending =
        job.pending_state.get_or_insert(PendingState { outcome, checksum, bytesize, created_at: now }).clone();
    if state.faults.pending_finals > 0 && now < later(pending.created_at, WAITS_FOR_LOG) {
        state.faults.pending_finals -= 1;
        let job = authenticate::job(state, id, Some(token))?;
        let answer =
            (StatusCode::ACCEPTED, job_status(job), [(UPDATE_INTERVAL, interval(job))], Json(202)).into_response();
        state.heartbeat(id);
        return Ok(answer);
    }
    // §5.3: a mismatch is counted and never refused.
    let job = authenticate::job(state, id, Some(token))?;
    let fits = crc::matches(&job.trace, &pending.checksum, pending.bytesize);
    state.checksum_mismatches += usize::from(!fits);
    Ok(finish(state, id, pending.outcome))
}

fn finish(state: &mut State, id: u64, outcome: Outcome) -> Response {
    state.heartbeat(id);
    state.finish(id, outcome);
    match state.jobs.get(&id) {
        Some(job) => (job_status(job), Json(200)).into_response(),
        None => StatusCode::OK.into_response(),
    }
}

fn outcome(status: Status, call: &Call) -> Outcome {
    let failed = status == Status::Failed;
    let exit_code = match call.params.get("exit_code") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_i64(),
        None => None,
    };
    Outcome { status, reason: failed.then(|| known(call.text("failure_reason").unwrap_or_default())), exit_code }
}

fn checksum(call: &Call) -> Option<(String, Option<u64>)> {
    let output = call.params.get("output");
    let field = |name: &str| output.and_then(|output| output.get(name));
    let checksum = field("checksum").and_then(Value::as_str).or_else(|| call.text("checksum"))?;
    (!checksum.is_empty()).then(|| (checksum.to_owned(), field("bytesize").and_then(Value::as_u64)))
}
