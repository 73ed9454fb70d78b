//! `GET /job`: who am I, and which tags do I carry? (gitlab-protocol.md §8.1)

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::sandbox::gitlab::call::{Call, message, unauthorized};
use crate::sandbox::gitlab::faults::later;
use crate::sandbox::gitlab::job_entity::entity;
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::State;
use crate::sandbox::gitlab::strict::{self, Declared};

const DECLARED: Declared = Declared { fields: &["token", "job_token"], tokens: &["job-token"] };

pub(in crate::sandbox::gitlab) async fn lookup(
    Extract(shared): Extract<Arc<Shared>>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &DECLARED)?;
    shared.read(|state| find(state, &call))
}

fn find(state: &State, call: &Call) -> Result<Response, Response> {
    let Some(token) = call.job_token() else {
        // Another kind of token has no job (§8.1).
        let other = call.header("private-token") == Some(state.private_token.as_str());
        return Err(if other { message(StatusCode::NOT_FOUND, "Not Found") } else { unauthorized() });
    };
    // E16: not running, not there.
    let job = state.executing_job(token).ok_or_else(unauthorized)?;
    // E22: the replica has not heard of the token yet.
    let lag = state.faults.lookup_lag;
    if job.started_at.is_some_and(|at| state.clock.now() < later(at, lag)) {
        return Err(unauthorized());
    }
    Ok(Json(entity(state, job.id)).into_response())
}
