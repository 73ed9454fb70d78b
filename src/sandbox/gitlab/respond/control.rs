//! `POST /projects/:id/jobs/:job_id/{cancel,retry,play,erase}` and the same job's page and log, for people
//! (gitlab-protocol.md §8.3).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::sandbox::gitlab::call::{Call, forbidden, message, unauthorized};
use crate::sandbox::gitlab::job_entity::entity;
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::State;
use crate::sandbox::gitlab::strict::{self, Declared};

const DECLARED: Declared = Declared { fields: &["force"], tokens: &["private-token"] };

pub(in crate::sandbox::gitlab) async fn show(
    Extract(shared): Extract<Arc<Shared>>,
    Path((project, job)): Path<(u64, u64)>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &DECLARED)?;
    shared.read(|state| {
        allowed(state, &call, project, job)?;
        Ok(Json(entity(state, job)).into_response())
    })
}

/// The log as it is now.
pub(in crate::sandbox::gitlab) async fn trace(
    Extract(shared): Extract<Arc<Shared>>,
    Path((project, job)): Path<(u64, u64)>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &DECLARED)?;
    shared.read(|state| {
        allowed(state, &call, project, job)?;
        let trace = state.jobs.get(&job).map(|job| job.trace.clone()).unwrap_or_default();
        Ok(([(CONTENT_TYPE, "text/plain")], trace).into_response())
    })
}

pub(in crate::sandbox::gitlab) async fn act(
    Extract(shared): Extract<Arc<Shared>>,
    Path((project, job, action)): Path<(u64, u64, String)>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &DECLARED)?;
    let force = call.params.get("force").is_some_and(|force| force == "true" || force == true);
    shared.change(|state| {
        allowed(state, &call, project, job)?;
        let acted = match action.as_str() {
            "cancel" => state.cancel(job, force).then_some(job),
            "retry" => Some(state.retry(job).ok_or_else(|| message(StatusCode::FORBIDDEN, "Job is not retryable"))?),
            // The one refusal of this endpoint that is no 403.
            "play" => {
                Some(state.play(job).then_some(job).ok_or_else(|| message(StatusCode::BAD_REQUEST, "Unplayable Job"))?)
            }
            "erase" => Some(state.erase(job).then_some(job).ok_or_else(forbidden)?),
            _ => return Err(message(StatusCode::NOT_FOUND, "Not Found")),
        };
        // Canceling what is over changes nothing and is no error.
        Ok((StatusCode::CREATED, Json(entity(state, acted.unwrap_or(job)))).into_response())
    })
}

/// Whether the call carries the one personal access token.
pub(super) fn is_person(state: &State, call: &Call) -> Result<(), Response> {
    match call.header("private-token") {
        Some(token) if token == state.private_token => Ok(()),
        _ => Err(unauthorized()),
    }
}

fn allowed(state: &State, call: &Call, project: u64, job: u64) -> Result<(), Response> {
    is_person(state, call)?;
    match state.jobs.get(&job) {
        Some(job) if job.project == project => Ok(()),
        _ => Err(message(StatusCode::NOT_FOUND, "Not Found")),
    }
}
