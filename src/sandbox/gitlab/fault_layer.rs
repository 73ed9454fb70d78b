//! Stands before every route: ordered answers, cut connections, and the echo of `X-Request-Id`.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::call;
use super::faults::Cut;
use super::shared::Shared;
use super::wire::Scissors;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn stand(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    // gitlab-protocol.md §11.1: the client's X-Request-Id comes back.
    let request_id = request.headers().get(REQUEST_ID).cloned();
    let now = shared.clock.now();
    let cut = shared.change(|state| state.faults.take_cut(&method, &path));
    if cut == Some(Cut::BeforeHandling) {
        scissors.cut();
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let ordered = shared.change(|state| state.faults.take_answer(&method, &path, now));
    let mut response = match ordered {
        Some((status, headers)) => ordered_answer(status, &headers),
        None => next.run(request).await,
    };
    if let Some(id) = request_id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if cut == Some(Cut::AfterHandling) {
        scissors.cut();
    }
    response
}

fn ordered_answer(status: u16, headers: &[(String, String)]) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut extra = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            extra.insert(name, value);
        }
    }
    (extra, call::message(status, status.canonical_reason().unwrap_or_default())).into_response()
}
