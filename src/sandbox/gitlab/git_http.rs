//! Git over smart HTTP, by `git http-backend` from the project's mirror (gitlab-protocol.md §10.1).

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::io::{ReaderStream, StreamReader};

use super::call::Call;
use super::mirror::{INHERITED, Mirror, environment};
use super::shared::Shared;
use super::state::State;
use super::strict::{self, Declared};

/// Git sends its credentials as basic authentication.
const DECLARED: Declared = Declared { fields: &["service"], tokens: &["authorization"] };

/// What a git URL asks for.
pub(super) struct Place {
    project: String,
    rest: String,
}

/// `/<project path>.git/<rest>`.
pub(super) fn place(path: &str) -> Option<Place> {
    let (project, rest) = path.strip_prefix('/')?.split_once(".git/")?;
    Some(Place { project: project.to_owned(), rest: rest.to_owned() })
}

pub(super) async fn serve(shared: &Arc<Shared>, place: &Place, request: Request) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let call = Call::head(&parts);
    strict::check(shared, &call, &DECLARED)?;
    let mirror = shared.read(|state| authorize(state, &call, place))?;
    let service = match (&parts.method, place.rest.as_str()) {
        (&Method::GET, "info/refs") => call.text("service").unwrap_or_default(),
        (&Method::POST, service) => service,
        _ => "",
    };
    match service {
        "git-upload-pack" => {}
        // A job token may read and not write; the dumb protocol is off.
        "git-receive-pack" | "" => return Err(plain(StatusCode::FORBIDDEN, "You are not allowed to do this.")),
        _ if call.own => return Err(strict::violation(shared, &call, "no such endpoint")),
        _ => return Err(plain(StatusCode::NOT_FOUND, "Not found")),
    }
    let made = Arc::clone(&mirror);
    let made = tokio::task::spawn_blocking(move || made.ensure()).await;
    if !matches!(made, Ok(Ok(()))) {
        return Err(plain(StatusCode::SERVICE_UNAVAILABLE, "the repository cannot be mirrored"));
    }
    let query = parts.uri.query().unwrap_or_default();
    let variables = cgi(&call, &mirror, &place.rest, query);
    backend(&mirror, variables, body).await.map_err(|error| {
        tracing::error!("git http-backend failed: {error}");
        plain(StatusCode::BAD_GATEWAY, "git http-backend failed")
    })
}

/// §10.1: user `gitlab-ci-token` with the token of a job that executes; its own project, or one that lets it in.
fn authorize(state: &State, call: &Call, place: &Place) -> Result<Arc<Mirror>, Response> {
    let challenge = || {
        let realm = [(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"GitLab\""))];
        (realm, plain(StatusCode::UNAUTHORIZED, "HTTP Basic: Access denied")).into_response()
    };
    let (user, token) = call.basic().ok_or_else(challenge)?;
    let job = state.executing_job(&token).filter(|_| user == "gitlab-ci-token").ok_or_else(challenge)?;
    let project = state.projects.iter().find(|project| project.path == place.project);
    let reachable = |id: u64, from: &[u64]| id == job.project || from.contains(&job.project);
    match project.filter(|project| reachable(project.id, &project.token_allowed_from)) {
        Some(project) => Ok(Arc::clone(&project.mirror)),
        None => Err(plain(
            StatusCode::NOT_FOUND,
            "The project you were looking for could not be found or you don't have permission to view it.",
        )),
    }
}

fn cgi(call: &Call, mirror: &Mirror, rest: &str, query: &str) -> Vec<(String, String)> {
    let settings =
        [("uploadpack.allowAnySHA1InWant", "true"), ("http.uploadpack", "true"), ("http.receivepack", "false")];
    let mut variables = environment(&[mirror.path()], &settings);
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    set("GIT_PROJECT_ROOT", &mirror.path().to_string_lossy());
    set("GIT_HTTP_EXPORT_ALL", "1");
    set("PATH_INFO", &format!("/{rest}"));
    set("REQUEST_METHOD", &call.method);
    set("QUERY_STRING", query);
    set("REMOTE_ADDR", "127.0.0.1");
    let headers = [
        (CONTENT_TYPE.as_str(), "CONTENT_TYPE"),
        (CONTENT_LENGTH.as_str(), "CONTENT_LENGTH"),
        (CONTENT_ENCODING.as_str(), "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ];
    for (header, name) in headers {
        if let Some(value) = call.header(header) {
            set(name, value);
        }
    }
    variables
}

async fn backend(mirror: &Mirror, variables: Vec<(String, String)>, body: Body) -> io::Result<Response> {
    let mut command = Command::new("git");
    command.arg("http-backend").current_dir(mirror.path()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    for name in INHERITED {
        command.env_remove(name);
    }
    let mut child = command.envs(variables).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        tokio::spawn(async move {
            let mut body = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
            // A backend that has read enough closes its input; that is no error of ours.
            drop(tokio::io::copy(&mut body, &mut input).await);
            drop(input.shutdown().await);
        });
    }
    let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    answer(BufReader::new(output), child).await
}

/// Turns CGI output into a response whose body is streamed as git writes it.
async fn answer(mut output: BufReader<ChildStdout>, child: Child) -> io::Result<Response> {
    let mut response = Response::new(Body::empty());
    let mut line = String::new();
    for _ in 0..64 {
        line.clear();
        if output.read_line(&mut line).await? == 0 {
            return Err(io::Error::other("it ended before its headers did"));
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok());
            *response.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    let stream = async_stream::try_stream! {
        let mut child = child;
        let mut chunks = ReaderStream::new(output);
        while let Some(chunk) = chunks.try_next().await? {
            yield chunk;
        }
        child.wait().await?;
    };
    let stream: std::pin::Pin<Box<dyn futures::Stream<Item = io::Result<bytes::Bytes>> + Send>> = Box::pin(stream);
    *response.body_mut() = Body::from_stream(stream);
    Ok(response)
}

fn plain(status: StatusCode, text: &str) -> Response {
    (status, text.to_owned()).into_response()
}
