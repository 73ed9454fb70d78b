//! The table of endpoints (gitlab-protocol.md §11.1). What is not in it GitLab does not have.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, patch, post, put};

use super::call::{Call, forbidden, message};
use super::respond::{claim, control, download, lookup, pipelines, runners, setup, trace, update, upload};
use super::shared::Shared;
use super::{fault_layer, git_http, strict};

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v4/runners/verify", post(runners::verify))
        .route("/api/v4/runners", post(runners::register).delete(runners::unregister))
        .route("/api/v4/runners/managers", delete(runners::forget_manager))
        .route("/api/v4/runners/reset_authentication_token", post(runners::reset_token))
        .route("/api/v4/runners/router/discovery", get(runners::discover))
        .route("/api/v4/jobs/request", post(claim::claim))
        .route("/api/v4/jobs/{id}", put(update::update))
        .route("/api/v4/jobs/{id}/trace", patch(trace::append))
        .route("/api/v4/jobs/{id}/artifacts", post(upload::upload).get(download::download))
        .route("/api/v4/jobs/{id}/artifacts/authorize", post(authorize))
        .route("/api/v4/job", get(lookup::lookup))
        .route("/api/v4/projects/{project}/jobs/{job}", get(control::show))
        .route("/api/v4/projects/{project}/jobs/{job}/trace", get(control::trace))
        .route("/api/v4/projects/{project}/pipeline", post(pipelines::create))
        .route("/api/v4/projects/{project}/pipelines", get(pipelines::list))
        .route("/api/v4/projects/{project}/pipelines/{pipeline}", get(pipelines::show))
        .route("/api/v4/projects/{project}/pipelines/{pipeline}/jobs", get(pipelines::jobs))
        .route("/api/v4/projects/{project}/pipelines/{pipeline}/cancel", post(pipelines::cancel))
        .route("/api/v4/projects/{project}/hooks", post(setup::add_hook))
        .route("/api/v4/user/runners", post(setup::add_runner))
        .route("/api/v4/projects/{project}/jobs/{job}/{action}", post(control::act))
        .route("/-/elsewhere/api/v4/jobs/{id}/artifacts", post(upload::upload))
        .route("/-/storage/{key}", get(download::storage))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), fault_layer::stand))
        .with_state(shared)
}

/// §7.1: only Workhorse may ask for an authorization.
async fn authorize(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let call = Call::head(&request.into_parts().0);
    if call.own {
        return strict::violation(&shared, &call, "only Workhorse calls this");
    }
    forbidden()
}

/// Git, or something that GitLab does not have.
async fn elsewhere(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if let Some(place) = git_http::place(request.uri().path()) {
        return git_http::serve(&shared, &place, request).await.unwrap_or_else(|response| response);
    }
    let call = Call::head(&request.into_parts().0);
    if call.own {
        return strict::violation(&shared, &call, "no such endpoint");
    }
    message(StatusCode::NOT_FOUND, "Not Found")
}
