//! Owns what S3 refuses before it looks at an object: bodies of unknown length, and URLs past their time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, USER_AGENT};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use url::form_urlencoded;

use super::server::Shared;

/// Stands before all requests.
pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if has_unknown_length(&request) {
        let text = "You must provide the Content-Length HTTP header.";
        return refuse(StatusCode::LENGTH_REQUIRED, "MissingContentLength", text);
    }
    let now = shared.clock.as_ref().map(|clock| clock.now());
    if now.is_some_and(|now| has_expired(request.uri().query().unwrap_or_default(), now)) {
        return refuse(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
    }
    let may_list = !shared.unlisting_key.as_deref().is_some_and(|key| is_signed_with(&request, key));
    if !may_list && is_listing(&request) {
        return denied(request.uri().path(), false);
    }
    let (reads, path) = (matches!(*request.method(), Method::GET | Method::HEAD), request.uri().path().to_owned());
    let is_head = *request.method() == Method::HEAD;
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let is_ours = agent.contains("app/mayfly") || agent.starts_with("mayfly");
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    if is_ours && response.status() == StatusCode::NOT_IMPLEMENTED {
        shared.violation(asked);
    }
    match response.status() {
        // s3s writes a body into every error, and a 304 must not have one.
        StatusCode::NOT_FOUND if reads && !may_list => denied(&path, is_head),
        StatusCode::NOT_MODIFIED => (StatusCode::NOT_MODIFIED, only_etag(response.headers())).into_response(),
        _ => response,
    }
}

/// Whether the request, or the URL, is signed with `access_key`.
fn is_signed_with(request: &Request, access_key: &str) -> bool {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let credential = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "X-Amz-Credential")
        .map(|(_, value)| value.into_owned());
    header.contains(&format!("Credential={access_key}/"))
        || credential.is_some_and(|credential| credential.starts_with(&format!("{access_key}/")))
}

/// ListObjects, of either version, is a GET of the bucket itself.
fn is_listing(request: &Request) -> bool {
    *request.method() == Method::GET && !request.uri().path().trim_matches('/').contains('/')
}

/// How S3 refuses a caller that may not list: a missing object is not told from one that must not be read (aws.md §9; the
/// text is that of callers in the bucket's own account).
fn denied(path: &str, is_head: bool) -> Response {
    let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let text = format!(
        "User: arn:aws:sts::123456789012:assumed-role/broker/broker is not authorized to perform: s3:ListBucket on \
         resource: &quot;arn:aws:s3:::{bucket}&quot; because no identity-based policy allows the s3:ListBucket action"
    );
    match is_head {
        true => StatusCode::FORBIDDEN.into_response(),
        false => refuse(StatusCode::FORBIDDEN, "AccessDenied", &text),
    }
}

/// A PUT that does not say how much will come. A copy has no body, and SDKs say nothing of its length.
fn has_unknown_length(request: &Request) -> bool {
    let has = |name: &str| request.headers().contains_key(name);
    *request.method() == Method::PUT && !has(CONTENT_LENGTH.as_str()) && !has("x-amz-copy-source")
}

/// Whether a presigned URL has had its time, by the sandbox's clock.
fn has_expired(query: &str, now: Timestamp) -> bool {
    let value = |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value);
    let (Some(date), Some(seconds)) = (value("X-Amz-Date"), value("X-Amz-Expires")) else { return false };
    let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", date.as_ref()).ok();
    let signed = signed.and_then(|date| date.to_zoned(TimeZone::UTC).ok()).map(|date| date.timestamp());
    // Who has no proper date or span hears so from the check of the signature.
    let (Some(signed), Ok(seconds)) = (signed, seconds.parse::<u32>()) else { return false };
    now.duration_since(signed) > SignedDuration::from_secs(seconds.into())
}

fn only_etag(headers: &HeaderMap) -> HeaderMap {
    headers.get(ETAG).map(|etag| (ETAG, etag.clone())).into_iter().collect()
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (status, [(CONTENT_TYPE, "application/xml")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_url_dies_with_the_sandboxs_clock() {
        let query = "X-Amz-Date=20261121T020000Z&X-Amz-Expires=900&X-Amz-Signature=0";
        let at = |time: &str| has_expired(query, time.parse().unwrap());

        assert!(!at("2026-11-21T02:15:00Z"));
        assert!(at("2026-11-21T02:15:01Z"));
        assert!(!has_expired("list-type=2", Timestamp::now()));
    }
}
