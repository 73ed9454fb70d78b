//! `POST /projects/:id/hooks` and `POST /user/runners`: what an owner sets up (gitlab-protocol.md §1.2, §2.2).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::sandbox::gitlab::call::{Call, message};
use crate::sandbox::gitlab::deliver;
use crate::sandbox::gitlab::options::{Hook, RunnerSpec, Scope};
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::strict::{self, Declared};

use super::control::is_person;

const HOOK: Declared = Declared {
    fields: &["url", "token", "signing_token", "job_events", "pipeline_events", "push_events"],
    tokens: &["private-token"],
};
const RUNNER: Declared = Declared {
    fields: &[
        "runner_type",
        "project_id",
        "description",
        "tag_list",
        "run_untagged",
        "paused",
        "maximum_timeout",
        "access_level",
    ],
    tokens: &["private-token"],
};

/// `POST /projects/:id/hooks`.
pub(in crate::sandbox::gitlab) async fn add_hook(
    Extract(shared): Extract<Arc<Shared>>,
    Path(project): Path<u64>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &HOOK)?;
    shared.read(|state| {
        is_person(state, &call)?;
        state.project(project).map(drop).ok_or_else(|| message(StatusCode::NOT_FOUND, "Project Not Found"))
    })?;
    let url = call.required("url")?.to_owned();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(invalid("Invalid url given"));
    }
    let hook = Hook {
        url,
        job_events: flag(&call, "job_events").unwrap_or(false),
        pipeline_events: flag(&call, "pipeline_events").unwrap_or(false),
        secret_token: call.text("token").map(str::to_owned),
        signing_token: call.text("signing_token").map(str::to_owned),
    };
    let mut answer = json!({
        "url": hook.url, "project_id": project, "job_events": hook.job_events,
        "pipeline_events": hook.pipeline_events, "push_events": false, "enable_ssl_verification": true,
        "token_present": hook.secret_token.is_some(), "signing_token_present": hook.signing_token.is_some(),
    });
    answer["id"] = json!(deliver::add(&shared, project, hook));
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `POST /user/runners`.
pub(in crate::sandbox::gitlab) async fn add_runner(
    Extract(shared): Extract<Arc<Shared>>,
    request: Request,
) -> Result<Response, Response> {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &RUNNER)?;
    shared.read(|state| is_person(state, &call))?;
    let scope = match call.required("runner_type")? {
        "instance_type" => Scope::Instance,
        "project_type" => {
            let id = call.params.get("project_id").and_then(number).ok_or_else(|| invalid("project_id is missing"))?;
            Scope::Project(id)
        }
        _ => return Err(invalid("runner_type does not have a valid value")),
    };
    let tags = call.text("tag_list").unwrap_or_default().split(',').map(str::trim).filter(|tag| !tag.is_empty());
    let spec = RunnerSpec {
        description: call.text("description").unwrap_or_default().to_owned(),
        tags: tags.map(str::to_owned).collect(),
        run_untagged: flag(&call, "run_untagged").unwrap_or(true),
        ref_protected: call.text("access_level") == Some("ref_protected"),
        paused: flag(&call, "paused").unwrap_or(false),
        maximum_timeout: call.params.get("maximum_timeout").and_then(number).map(Duration::from_secs),
        scope,
    };
    // §2.2: a runner that nothing fits is refused.
    if spec.tags.is_empty() && !spec.run_untagged {
        return Err(invalid("Tags list can not be empty when runner is not allowed to pick untagged jobs"));
    }
    let (id, token) = shared.change(|state| state.add_runner(spec));
    let answer = json!({ "id": id, "token": token, "token_expires_at": null });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// JSON has booleans, a form has text.
fn flag(call: &Call, name: &str) -> Option<bool> {
    match call.params.get(name)? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => Some(text == "true" || text == "1"),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn invalid(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "message": reason }))).into_response()
}
