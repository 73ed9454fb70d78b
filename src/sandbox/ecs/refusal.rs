//! Owns the errors that ECS answers with, and how awsJson1.1 writes them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer other than 200: a code that clients match on, and a sentence.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    resource_ids: Vec<String>,
}

impl Refusal {
    pub(super) fn client(message: impl Into<String>) -> Self {
        Refusal::bad_request("ClientException", message)
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Refusal::bad_request("InvalidParameterException", message)
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, code, message: message.into(), resource_ids: Vec::new() }
    }

    /// The client token was used for something else; the answer names what it started (aws.md §1.5).
    pub(super) fn conflict(resource_ids: Vec<String>) -> Self {
        let message = "The client token was used before with other parameters.";
        Refusal { resource_ids, ..Refusal::bad_request("ConflictException", message) }
    }

    /// aws.md §1.4: HTTP 400, and a code that the service's model does not list.
    pub(super) fn throttled() -> Self {
        Refusal::bad_request("ThrottlingException", "Rate exceeded")
    }

    pub(super) fn server() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Refusal { status, ..Refusal::bad_request("ServerException", "Service Unavailable. Please try again later.") }
    }

    /// What only our own clients hear: the sandbox does not know this, so nobody may rely on it.
    pub(super) fn unknown_to_the_sandbox(message: impl Into<String>) -> Self {
        let status = StatusCode::NOT_IMPLEMENTED;
        Refusal { status, ..Refusal::bad_request("NotImplementedBySandbox", message) }
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({"__type": self.code, "message": self.message});
        if !self.resource_ids.is_empty() {
            body["resourceIds"] = json!(self.resource_ids);
        }
        answer(self.status, &body)
    }
}

/// One awsJson1.1 response.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let headers = [(header::CONTENT_TYPE.as_str(), "application/x-amz-json-1.1"), ("x-amzn-requestid", id.as_str())];
    (status, headers, body.to_string()).into_response()
}
