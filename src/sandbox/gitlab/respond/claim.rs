//! `POST /jobs/request`: a runner asks for a job (gitlab-protocol.md §3).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::sandbox::gitlab::call::{Call, forbidden, message};
use crate::sandbox::gitlab::faults::Lag;
use crate::sandbox::gitlab::options::Scope;
use crate::sandbox::gitlab::payload;
use crate::sandbox::gitlab::queue::Contact;
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::State;
use crate::sandbox::gitlab::strict::{self, Declared, with_info};

/// §3.1. `last_update` is declared, but a dispatcher that sends it can lose a real job (§3.5): ours may not.
const DECLARED: Declared = Declared {
    fields: with_info!["token", "system_id", "session.url", "session.certificate", "session.authorization"],
    tokens: &["runner-token"],
};
const LAST_UPDATE: HeaderName = HeaderName::from_static("x-gitlab-last-update");

enum Claimed {
    Job { id: u64, body: Value, version: String },
    Nothing { version: String },
    Conflict,
}

pub(in crate::sandbox::gitlab) async fn claim(
    Extract(shared): Extract<Arc<Shared>>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &DECLARED)?;
    own_manners(&shared, &call)?;
    shared.change(|state| state.claim_requests += 1);
    let token = call.required("token")?.to_owned();
    match shared.change(|state| decide(state, &call, &token))? {
        Claimed::Nothing { version } => Ok((StatusCode::NO_CONTENT, [(LAST_UPDATE, version)]).into_response()),
        // §11.3: a 409 carries no Last-Update.
        Claimed::Conflict => Ok(message(StatusCode::CONFLICT, "Conflict")),
        Claimed::Job { id, body, version } => present(&shared, id, body, version).await,
    }
}

/// §11.1: the header must be the token of the body, and the answer is JSON.
fn own_manners(shared: &Arc<Shared>, call: &Call) -> Result<(), Response> {
    if !call.own {
        return Ok(());
    }
    if call.header("runner-token").is_some_and(|token| Some(token) != call.text("token")) {
        return Err(strict::violation(shared, call, "header `runner-token` differs from the body's token"));
    }
    let accepts = call.header(ACCEPT.as_str()).unwrap_or("*/*");
    if !accepts.contains("application/json") && !accepts.contains("*/*") {
        return Err(strict::violation(shared, call, "header `accept` does not accept JSON"));
    }
    Ok(())
}

fn decide(state: &mut State, call: &Call, token: &str) -> Result<Claimed, Response> {
    let contact = contact(call);
    let Some(runner) = state.runner_by_token(token) else { return Err(forbidden()) };
    let (id, paused, version) = (runner.id, runner.spec.paused, runner.queue_version.clone());
    // §3.3, §11.3: a project runner without its project.
    if let Scope::Project(project) = runner.spec.scope
        && state.project(project).is_none()
    {
        return Err(message(StatusCode::FORBIDDEN, "Forbidden - Runner is orphaned"));
    }
    state.contact(id, &contact);
    // E2 and E3.
    if paused || call.text("last_update") == Some(version.as_str()) {
        return Ok(Claimed::Nothing { version });
    }
    // §3.1: a local session URL is refused by default.
    let session = call.params.get("session").and_then(|session| session.get("url")).and_then(Value::as_str);
    if session.is_some_and(is_local) {
        return Ok(Claimed::Conflict);
    }
    if state.faults.conflicts > 0 {
        state.faults.conflicts -= 1;
        return Ok(Claimed::Conflict);
    }
    let waits = state.runner(id).is_some_and(|runner| !state.candidates(runner).is_empty());
    if waits && let Some(lag) = state.faults.lagged.pop_front() {
        return Ok(match lag {
            Lag::NoContent => Claimed::Nothing { version },
            Lag::Conflict => Claimed::Conflict,
        });
    }
    // §3.7: what cannot be presented has failed by now; the next one is tried.
    match state.assign(id, &contact) {
        Some(id) => Ok(match state.jobs.get(&id).and_then(|job| payload::claim(state, job)) {
            Some(body) => Claimed::Job { id, body, version },
            None => Claimed::Nothing { version },
        }),
        None => Ok(Claimed::Nothing { version }),
    }
}

/// Makes the pipeline's ref (§10.1), applies what a test ordered for the body, and answers.
async fn present(shared: &Arc<Shared>, id: u64, mut body: Value, version: String) -> Result<Response, Response> {
    let keeper = Arc::clone(shared);
    let pipeline = shared.read(|state| state.jobs.get(&id).map_or(0, |job| job.pipeline));
    let kept = tokio::task::spawn_blocking(move || keeper.keep_pipeline_ref(pipeline)).await;
    if !matches!(kept, Ok(Ok(()))) {
        // §3.7: a job that cannot be presented is dropped with scheduler_failure.
        tracing::warn!(job.id = id, "the pipeline's ref could not be made; job {id} fails");
        shared.change(|state| state.drop_job(id, "scheduler_failure"));
        return Ok((StatusCode::NO_CONTENT, [(LAST_UPDATE, version)]).into_response());
    }
    let (rewrites, raw) = shared.change(|state| {
        let fits = |only: &Option<u64>| only.is_none_or(|only| only == id);
        let rewrites: Vec<_> = state.faults.rewrites.iter().filter(|(only, _)| fits(only)).cloned().collect();
        (rewrites, state.faults.raw_claims.pop_front())
    });
    for (_, rewrite) in rewrites {
        rewrite(&mut body);
    }
    Ok(match raw {
        Some(raw) => (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], raw).into_response(),
        None => (StatusCode::CREATED, Json(body)).into_response(),
    })
}

/// What the request says about its sender (§2.4: a missing system id is a fixed legacy one).
pub(super) fn contact(call: &Call) -> Contact {
    let info = call.params.get("info");
    let text = |key: &str| info.and_then(|info| info.get(key)).and_then(Value::as_str).map(str::to_owned);
    let features = info.and_then(|info| info.get("features")).and_then(Value::as_object);
    let on = features.into_iter().flatten().filter(|(_, on)| on.as_bool() == Some(true));
    Contact {
        system_id: call.text("system_id").unwrap_or("<legacy>").to_owned(),
        features: on.map(|(name, _)| name.clone()).collect(),
        version: text("version"),
    }
}

fn is_local(url: &str) -> bool {
    let host = url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    host == "localhost"
        || host.starts_with("127.")
        || host == "[::1]"
        || host.starts_with("192.168.")
        || host.starts_with("10.")
}
