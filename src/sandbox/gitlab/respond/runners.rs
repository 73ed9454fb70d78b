//! The calls by which a runner manages itself (gitlab-protocol.md §2).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::claim::contact;
use crate::sandbox::gitlab::call::{Call, forbidden, message};
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::random;
use crate::sandbox::gitlab::strict::{self, Declared, with_info};

type Answer = Result<Response, Response>;

const VERIFY: Declared = Declared { fields: with_info!["token", "system_id"], tokens: &["runner-token"] };
const MANAGE: Declared = Declared { fields: &["token", "system_id"], tokens: &["runner-token"] };
const DISCOVER: Declared = Declared { fields: &[], tokens: &["runner-token"] };

/// `POST /runners/verify`: is this token good? It counts as a contact (§9.3).
pub(in crate::sandbox::gitlab) async fn verify(Extract(shared): Extract<Arc<Shared>>, request: Request) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &VERIFY)?;
    let token = call.required("token")?;
    shared.change(|state| {
        let id = state.runner_by_token(token).map(|runner| runner.id).ok_or_else(forbidden)?;
        state.contact(id, &contact(&call));
        Ok(Json(json!({ "id": id, "token": token, "token_expires_at": null })).into_response())
    })
}

/// `POST /runners`: registration tokens are switched off (§2.1: 410).
pub(in crate::sandbox::gitlab) async fn register(Extract(shared): Extract<Arc<Shared>>, request: Request) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &VERIFY)?;
    call.required("token")?;
    Err(message(StatusCode::GONE, "Gone - Runner registration with registration tokens is disallowed"))
}

/// `DELETE /runners`: for a `glrt-` token the managers go, the runner stays (§2.1).
pub(in crate::sandbox::gitlab) async fn unregister(Extract(shared): Extract<Arc<Shared>>, request: Request) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &MANAGE)?;
    let token = call.required("token")?;
    shared.change(|state| {
        let runner = state.runner_by_token(token).ok_or_else(forbidden)?;
        runner.managers.clear();
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

/// `DELETE /runners/managers`: one manager goes.
pub(in crate::sandbox::gitlab) async fn forget_manager(
    Extract(shared): Extract<Arc<Shared>>,
    request: Request,
) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &MANAGE)?;
    let (token, system_id) = (call.required("token")?, call.required("system_id")?);
    shared.change(|state| {
        let runner = state.runner_by_token(token).ok_or_else(forbidden)?;
        let before = runner.managers.len();
        runner.managers.retain(|manager| manager.system_id != system_id);
        if runner.managers.len() == before {
            return Err(message(StatusCode::NOT_FOUND, "Runner manager not found"));
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

/// `POST /runners/reset_authentication_token`: the old token is dead at once.
pub(in crate::sandbox::gitlab) async fn reset_token(Extract(shared): Extract<Arc<Shared>>, request: Request) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &MANAGE)?;
    let token = call.required("token")?;
    shared.change(|state| {
        let id = state.runner_by_token(token).map(|runner| runner.id).ok_or_else(forbidden)?;
        state.contact(id, &contact(&call));
        let fresh = format!("glrt-{}", random(20));
        if let Some(runner) = state.runner_by_token(token) {
            runner.token = fresh.clone();
        }
        Ok((StatusCode::CREATED, Json(json!({ "token": fresh, "token_expires_at": null }))).into_response())
    })
}

/// `GET /runners/router/discovery`: the job router is off, which is normal (§2.1: 501).
pub(in crate::sandbox::gitlab) async fn discover(Extract(shared): Extract<Arc<Shared>>, request: Request) -> Answer {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &DISCOVER)?;
    let token = call.header("runner-token").unwrap_or_default().to_owned();
    let known = shared.read(|state| state.runners.iter().any(|runner| runner.token == token));
    Err(if known { message(StatusCode::NOT_IMPLEMENTED, "Not Implemented") } else { forbidden() })
}
