//! `GET /jobs/:id/artifacts`: a job fetches what an earlier one made (gitlab-protocol.md §7.2).

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use crate::sandbox::gitlab::call::{Call, forbidden, message, unauthorized};
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::{State, random};
use crate::sandbox::gitlab::strict::{self, Declared};

const DECLARED: Declared = Declared { fields: &["token", "direct_download"], tokens: &["job-token"] };
/// §7.2: a presigned URL must not be shown a job token.
const STORAGE: Declared = Declared { fields: &[], tokens: &[] };

pub(in crate::sandbox::gitlab) async fn download(
    Extract(shared): Extract<Arc<Shared>>,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &DECLARED)?;
    let (file, size) = shared.read(|state| find(state, id, &call))?;
    let direct = call.text("direct_download") == Some("true");
    let location = shared.change(|state| {
        let key = (direct && state.faults.direct_download).then(|| random(32))?;
        state.storage.insert(key.clone(), file.clone());
        Some(format!("{}/-/storage/{key}", state.url))
    });
    match location {
        Some(location) => Ok((StatusCode::FOUND, [(LOCATION, location)]).into_response()),
        None => stream(file, Some(size)).await,
    }
}

/// The storage that a 302 leads to.
pub(in crate::sandbox::gitlab) async fn storage(
    Extract(shared): Extract<Arc<Shared>>,
    Path(key): Path<String>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &STORAGE)?;
    if call.header("authorization").is_some() {
        return Err(message(StatusCode::BAD_REQUEST, "Only one auth mechanism allowed"));
    }
    let file = shared.read(|state| state.storage.get(&key).cloned()).ok_or_else(forbidden)?;
    stream(file, None).await
}

fn find(state: &State, id: u64, call: &Call) -> Result<(PathBuf, u64), Response> {
    // E16: a token is good for as long as its job executes.
    let reader = call.job_token().and_then(|token| state.executing_job(token)).ok_or_else(unauthorized)?;
    let job = state.jobs.get(&id).filter(|job| job.project == reader.project).ok_or_else(forbidden)?;
    let archive = job.archive().ok_or_else(|| message(StatusCode::NOT_FOUND, "Not Found"))?;
    Ok((archive.file.clone(), archive.size))
}

async fn stream(file: PathBuf, size: Option<u64>) -> Result<Response, Response> {
    let missing = |_| message(StatusCode::NOT_FOUND, "Not Found");
    let file = tokio::fs::File::open(&file).await.map_err(missing)?;
    let body = Body::from_stream(ReaderStream::new(file));
    let mut response = ([(CONTENT_TYPE, "application/octet-stream")], body).into_response();
    if let Some(size) = size {
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
    }
    Ok(response)
}
