//! `POST /projects/:id/pipeline`, and what people read of pipelines: lists, one, its jobs; cancel (GitLab's pipelines API).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::sandbox::gitlab::call::{Call, message};
use crate::sandbox::gitlab::hook_bodies::{iso, user};
use crate::sandbox::gitlab::job_entity::entity;
use crate::sandbox::gitlab::options::{Source, Trigger, Variable};
use crate::sandbox::gitlab::run::{self, PipelineError};
use crate::sandbox::gitlab::shared::Shared;
use crate::sandbox::gitlab::state::State;
use crate::sandbox::gitlab::strict::{self, Declared};

use super::control::is_person;

type Answer = Result<Response, Response>;

const CREATE: Declared = Declared { fields: &["ref", "variables", "inputs.*"], tokens: &["private-token"] };
const READ: Declared = Declared { fields: &[], tokens: &["private-token"] };

/// `POST /projects/:id/pipeline`: for the newest commit of `ref`.
pub(in crate::sandbox::gitlab) async fn create(
    Extract(shared): Extract<Arc<Shared>>,
    Path(project): Path<u64>,
    request: Request,
) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &CREATE)?;
    shared.read(|state| of_project(state, &call, project))?;
    let trigger = Trigger {
        ref_name: call.required("ref")?.to_owned(),
        source: Source::Api,
        variables: variables(call.params.get("variables")).ok_or_else(|| invalid("variables is invalid"))?,
        inputs: inputs(call.params.get("inputs")),
        ..Trigger::default()
    };
    // git is asked, which takes its time.
    let started = {
        let shared = Arc::clone(&shared);
        tokio::task::spawn_blocking(move || run::run(&shared, project, &trigger)).await
    };
    let failed = |error: PipelineError| match error {
        PipelineError::NoRef(_) => invalid("Reference not found"),
        error => invalid(&error.to_string()),
    };
    let internal = |_| message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    let id = started.map_err(internal)?.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(shared.read(|state| pipeline(state, id)))).into_response())
}

/// `GET /projects/:id/pipelines`: the newest first.
pub(in crate::sandbox::gitlab) async fn list(
    Extract(shared): Extract<Arc<Shared>>,
    Path(project): Path<u64>,
    request: Request,
) -> Answer {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &READ)?;
    shared.read(|state| {
        of_project(state, &call, project)?;
        let rows = state.pipelines.values().rev().filter(|row| row.project == project);
        let all: Vec<Value> = rows.map(|row| pipeline(state, row.id)).collect();
        Ok(Json(all).into_response())
    })
}

/// `GET /projects/:id/pipelines/:pipeline_id`.
pub(in crate::sandbox::gitlab) async fn show(
    Extract(shared): Extract<Arc<Shared>>,
    Path((project, id)): Path<(u64, u64)>,
    request: Request,
) -> Answer {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &READ)?;
    shared.read(|state| {
        of_pipeline(state, &call, project, id)?;
        Ok(Json(pipeline(state, id)).into_response())
    })
}

/// `GET /projects/:id/pipelines/:pipeline_id/jobs`: the newest attempt of each.
pub(in crate::sandbox::gitlab) async fn jobs(
    Extract(shared): Extract<Arc<Shared>>,
    Path((project, id)): Path<(u64, u64)>,
    request: Request,
) -> Answer {
    let call = Call::head(&request.into_parts().0);
    strict::check(&shared, &call, &READ)?;
    shared.read(|state| {
        of_pipeline(state, &call, project, id)?;
        let all: Vec<Value> = state.latest(id).filter_map(|job| entity(state, job.id)).collect();
        Ok(Json(all).into_response())
    })
}

/// `POST /projects/:id/pipelines/:pipeline_id/cancel`.
pub(in crate::sandbox::gitlab) async fn cancel(
    Extract(shared): Extract<Arc<Shared>>,
    Path((project, id)): Path<(u64, u64)>,
    request: Request,
) -> Answer {
    let call = Call::read(request).await?;
    strict::check(&shared, &call, &READ)?;
    shared.change(|state| {
        of_pipeline(state, &call, project, id)?;
        state.cancel_pipeline(id);
        Ok(Json(pipeline(state, id)).into_response())
    })
}

fn of_project(state: &State, call: &Call, project: u64) -> Result<(), Response> {
    is_person(state, call)?;
    state.project(project).map(drop).ok_or_else(|| message(StatusCode::NOT_FOUND, "Project Not Found"))
}

fn of_pipeline(state: &State, call: &Call, project: u64, id: u64) -> Result<(), Response> {
    of_project(state, call, project)?;
    let found = state.pipelines.get(&id).filter(|row| row.project == project);
    found.map(drop).ok_or_else(|| message(StatusCode::NOT_FOUND, "Not Found"))
}

fn pipeline(state: &State, id: u64) -> Value {
    let Some(row) = state.pipelines.get(&id) else { return Value::Null };
    let web_url = state.project(row.project).map(|project| state.web_url(project)).unwrap_or_default();
    json!({
        "id": row.id,
        "iid": row.iid,
        "project_id": row.project,
        "name": row.name,
        "sha": row.sha,
        "before_sha": row.before_sha,
        "ref": row.git_ref(),
        "tag": row.tag,
        "status": row.status,
        "source": row.source.as_str(),
        "yaml_errors": null,
        "user": user(),
        "created_at": iso(Some(row.created_at)),
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at),
        "duration": row.finished_at.and_then(|end| state.seconds(row.started_at, Some(end))),
        "web_url": format!("{web_url}/-/pipelines/{id}"),
    })
}

fn variables(value: Option<&Value>) -> Option<Vec<Variable>> {
    let Some(value) = value else { return Some(Vec::new()) };
    let variable = |value: &Value| {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        Some(Variable {
            key: text("key")?.to_owned(),
            value: text("value").unwrap_or_default().to_owned(),
            file: text("variable_type") == Some("file"),
            ..Variable::default()
        })
    };
    value.as_array()?.iter().map(variable).collect()
}

fn inputs(value: Option<&Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// A pipeline that cannot be made: 400, with the reason as GitLab nests it.
fn invalid(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "message": { "base": [reason] } }))).into_response()
}
