//! `POST /jobs/:id/artifacts`: a runner hands over a file (gitlab-protocol.md §7.1).

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest, Path, Request, State as Extract};
use axum::http::header::{CONTENT_LENGTH, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::authenticate;
use crate::sandbox::gitlab::artifact_types::format_of;
use crate::sandbox::gitlab::call::{Call, message};
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::{Artifact, State, random};
use crate::sandbox::gitlab::strict::{self, Declared};

const DECLARED: Declared = Declared {
    fields: &["token", "artifact_type", "artifact_format", "expire_in", "accessibility"],
    tokens: &["job-token"],
};
/// What GitLab reads of a dotenv report.
const MAX_DOTENV: u64 = 5 * 1024;

/// A file on disk that is nobody's yet; dropping it deletes it.
struct Received {
    path: PathBuf,
    filename: String,
    size: u64,
    sha256: String,
}

pub(in crate::sandbox::gitlab) async fn upload(
    Extract(shared): Extract<Arc<Shared>>,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let mut call = Call::head(&parts);
    strict::check(&shared, &call, &DECLARED)?;
    // Workhorse asks Rails before it takes the body (§7.1).
    let limit = shared.change(|state| authorize(state, id, &call))?;
    if call.header(CONTENT_LENGTH.as_str()).and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > limit + 64 * 1024) {
        return Err(too_large());
    }
    if let Some(response) = redirect(&shared, &call, &parts.uri) {
        return Ok(response);
    }
    let form = Multipart::from_request(Request::from_parts(parts, body), &()).await;
    let mut form = form.map_err(|_| message(StatusCode::BAD_REQUEST, "Bad request - multipart expected"))?;
    let folder = shared.files.path().join("artifacts");
    let received = receive(&shared, &mut form, &mut call, &folder, limit).await?;
    let mut received =
        received.ok_or_else(|| message(StatusCode::BAD_REQUEST, "Bad request - Missing artifacts file"))?;
    let kind = call.text("artifact_type").unwrap_or("archive").to_owned();
    let format = call.text("artifact_format").unwrap_or("zip").to_owned();
    if format_of(&kind) != Some(format.as_str()) {
        return Err(message(StatusCode::BAD_REQUEST, &format!("Bad request - {kind} cannot be {format}")));
    }
    let dotenv = match kind.as_str() {
        "dotenv" => dotenv(&received.path).ok_or_else(|| message(StatusCode::BAD_REQUEST, "Invalid Format"))?,
        _ => Vec::new(),
    };
    let artifact = Artifact {
        kind,
        format,
        filename: std::mem::take(&mut received.filename),
        file: std::mem::take(&mut received.path),
        size: received.size,
        sha256: std::mem::take(&mut received.sha256),
        expire_in: call.text("expire_in").map(str::to_owned),
    };
    shared.change(|state| store(state, id, &call, artifact, dotenv))
}

/// The largest file that this job may upload.
fn authorize(state: &mut State, id: u64, call: &Call) -> Result<u64, Response> {
    let limit = state.artifact_limit;
    authenticate::job(state, id, call.job_token()).map(|_| limit)
}

/// §7.1: a 307 with `Location`; the client sends the body there.
fn redirect(shared: &Arc<Shared>, call: &Call, uri: &Uri) -> Option<Response> {
    let ordered = shared.change(|state| {
        let ordered = state.faults.redirects > 0 && !call.path.starts_with("/-/elsewhere");
        state.faults.redirects = state.faults.redirects.saturating_sub(usize::from(ordered));
        ordered.then(|| state.url.clone())
    })?;
    let location = format!("{ordered}/-/elsewhere{}", uri.path_and_query().map_or("", |path| path.as_str()));
    Some((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response())
}

async fn receive(
    shared: &Arc<Shared>,
    form: &mut Multipart,
    call: &mut Call,
    folder: &FilePath,
    limit: u64,
) -> Result<Option<Received>, Response> {
    let mut received = None;
    let broken = |_| message(StatusCode::BAD_REQUEST, "Bad request - broken multipart body");
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            received = Some(save(field, folder, limit).await?);
            continue;
        }
        // Any further part is a parameter; ours must be declared.
        let text = bounded_text(field).await?;
        call.params.insert(name, text.into());
        strict::check(shared, call, &DECLARED)?;
    }
    Ok(received)
}

async fn save(mut field: Field<'_>, folder: &FilePath, limit: u64) -> Result<Received, Response> {
    let storage = |error: std::io::Error| {
        tracing::error!("an artifact could not be stored: {error}");
        message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
    };
    tokio::fs::create_dir_all(folder).await.map_err(storage)?;
    let filename = field.file_name().unwrap_or("artifacts").to_owned();
    let mut received = Received { path: folder.join(random(32)), filename, size: 0, sha256: String::new() };
    let mut file = tokio::fs::File::create(&received.path).await.map_err(storage)?;
    let mut hash = Sha256::new();
    let broken = |_| message(StatusCode::BAD_REQUEST, "Bad request - the file ended early");
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        received.size += chunk.len() as u64;
        if received.size > limit {
            return Err(too_large());
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(storage)?;
    }
    file.flush().await.map_err(storage)?;
    received.sha256 = hex::encode(hash.finalize());
    Ok(received)
}

async fn bounded_text(mut field: Field<'_>) -> Result<String, Response> {
    let mut text = Vec::new();
    let broken = |_| message(StatusCode::BAD_REQUEST, "Bad request - broken multipart body");
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        if text.len() + chunk.len() > 4096 {
            return Err(too_large());
        }
        text.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn store(
    state: &mut State,
    id: u64,
    call: &Call,
    artifact: Artifact,
    dotenv: Vec<(String, String)>,
) -> Result<Response, Response> {
    let job = authenticate::job(state, id, call.job_token()).inspect_err(|_| forget(&artifact.file))?;
    // E15: the same bytes again are fine, others are not.
    if let Some(known) = job.artifacts.iter().find(|known| known.kind == artifact.kind) {
        forget(&artifact.file);
        if known.sha256 == artifact.sha256 {
            return Ok((StatusCode::CREATED, Json(201)).into_response());
        }
        let text = "Bad request - another artifact of the same type already exists";
        return Err(message(StatusCode::BAD_REQUEST, text));
    }
    job.dotenv.extend(dotenv);
    job.artifacts.push(artifact);
    Ok((StatusCode::CREATED, Json(201)).into_response())
}

fn too_large() -> Response {
    message(StatusCode::PAYLOAD_TOO_LARGE, "file size has reached maximum size limit")
}

/// The pairs of a gzipped dotenv report, or nothing if it is broken.
fn dotenv(path: &FilePath) -> Option<Vec<(String, String)>> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    let read = flate2::read::GzDecoder::new(file).take(MAX_DOTENV + 1).read_to_string(&mut text).ok()?;
    if read as u64 > MAX_DOTENV {
        return None;
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(pair).collect()
}

fn pair(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    let named = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    named.then(|| (key.to_owned(), value.trim().trim_matches('"').to_owned()))
}

fn forget(path: &FilePath) {
    if !path.as_os_str().is_empty()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::debug!("a refused artifact stays in the temporary folder: {error}");
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        forget(&self.path);
    }
}
