//! Owns a request as GitLab's API layer sees it: headers, and query and body merged into parameters.

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

/// A request, read.
pub(super) struct Call {
    /// Whether a client of ours sent it.
    pub own: bool,
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub params: Map<String, Value>,
}

impl Call {
    /// A request whose body is not parameters.
    pub fn head(parts: &Parts) -> Self {
        let mut params = Map::new();
        for (key, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            params.insert(key.into_owned(), Value::String(value.into_owned()));
        }
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        Call {
            own: agent.starts_with("mayfly"),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers.clone(),
            params,
        }
    }

    /// A request whose body, JSON or a form, is parameters. Workhorse refuses more than 32 KiB (§3.3).
    pub async fn read(request: Request) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let mut call = Call::head(&parts);
        let too_large = |_| message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        let bytes = to_bytes(body, 32 * 1024).await.map_err(too_large)?;
        let form = call.header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/x-www-form"));
        if form {
            for (key, value) in url::form_urlencoded::parse(&bytes) {
                call.params.insert(key.into_owned(), Value::String(value.into_owned()));
            }
        } else if !bytes.is_empty() {
            let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(&bytes);
            let not_json = |_| message(StatusCode::BAD_REQUEST, "The request body is not a JSON object");
            call.params.extend(parsed.map_err(not_json)?);
        }
        Ok(call)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The parameter `name` as text; an empty one is there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str)
    }

    /// The parameter `name` or the answer that it is missing.
    pub fn required(&self, name: &str) -> Result<&str, Response> {
        self.text(name).ok_or_else(|| {
            let error = json!({ "error": format!("{name} is missing") });
            (StatusCode::BAD_REQUEST, Json(error)).into_response()
        })
    }

    /// The job token: the parameter wins over the header (§2.6).
    pub fn job_token(&self) -> Option<&str> {
        self.text("token").or_else(|| self.text("job_token")).or_else(|| self.header("job-token"))
    }

    /// User and password of HTTP basic authentication.
    pub fn basic(&self) -> Option<(String, String)> {
        let encoded = self.header(AUTHORIZATION.as_str())?.strip_prefix("Basic ")?;
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }
}

/// An error as GitLab words it: `{"message": "403 Forbidden"}`.
pub(super) fn message(status: StatusCode, text: &str) -> Response {
    let text = format!("{} {text}", status.as_u16());
    (status, Json(json!({ "message": text }))).into_response()
}

pub(super) fn forbidden() -> Response {
    message(StatusCode::FORBIDDEN, "Forbidden")
}

pub(super) fn unauthorized() -> Response {
    message(StatusCode::UNAUTHORIZED, "Unauthorized")
}
