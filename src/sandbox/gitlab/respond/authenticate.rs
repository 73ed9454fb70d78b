//! Decides whether a runner may speak for a job (gitlab-protocol.md §5.2; E10, E12, E14).

use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::sandbox::gitlab::call::{forbidden, message};
use crate::sandbox::gitlab::state::{Job, State};

pub(super) const JOB_STATUS: HeaderName = HeaderName::from_static("job-status");
pub(super) const UPDATE_INTERVAL: HeaderName = HeaderName::from_static("x-gitlab-trace-update-interval");

/// The job `id` if `token` is its own and it executes. A missing job is 403, never 404.
pub(super) fn job<'s>(state: &'s mut State, id: u64, token: Option<&str>) -> Result<&'s mut Job, Response> {
    let Some(job) = state.jobs.get_mut(&id) else { return Err(forbidden()) };
    if token.is_none() || job.token.as_deref() != token {
        return Err(forbidden());
    }
    let status = job_status(job);
    let refuse = |why: &str| Err((status, message(StatusCode::FORBIDDEN, why)).into_response());
    if job.erased_at.is_some() {
        return refuse("Forbidden - Job has been erased!");
    }
    if !job.status.is_executing() {
        return refuse("Forbidden - Job is not processing on runner");
    }
    Ok(job)
}

/// `Job-Status` (§5.5).
pub(super) fn job_status(job: &Job) -> [(HeaderName, HeaderValue); 1] {
    [(JOB_STATUS, HeaderValue::from_static(job.status.as_str()))]
}

/// E18: 3 seconds while somebody watches, else 60 (§6.1).
pub(super) fn interval(job: &Job) -> HeaderValue {
    HeaderValue::from_static(if job.watched { "3" } else { "60" })
}
