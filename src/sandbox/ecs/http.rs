//! Owns the HTTP side of ECS: awsJson1.1, who may ask, and what our own clients may not send.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::access::{check_caller, check_key};
use super::faults::When;
use super::refusal::{Refusal, answer};
use super::shape::{Misfit, misfits};
use super::state::Shared;
use super::{definitions, logs, run_task, tasks};

const ECS: &str = "AmazonEC2ContainerServiceV20141113";
const LOGS: &str = "Logs_20140328";
/// More than any request of ECS may have.
const MOST_BYTES: usize = 1024 * 1024;

/// The one route of ECS, and of the part of CloudWatch Logs that is here.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new().fallback(serve).with_state(shared)
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let is_ours = is_our_own(&parts.headers);
    let target = header(&parts.headers, "x-amz-target").to_owned();
    match operate(&shared, parts.method.as_str(), &parts.headers, body, &target, is_ours).await {
        Ok(value) => answer(StatusCode::OK, &value),
        Err(refusal) => refusal.into_response(),
    }
}

async fn operate(
    shared: &Arc<Shared>,
    method: &str,
    headers: &HeaderMap,
    body: Body,
    target: &str,
    is_ours: bool,
) -> Result<Value, Refusal> {
    let (service, operation) = target.split_once('.').unwrap_or((target, ""));
    let known = match service {
        ECS => operation != "GetLogEvents",
        LOGS => operation == "GetLogEvents",
        _ => false,
    };
    let access_key = check_signature(shared, headers, if service == LOGS { "logs" } else { "ecs" })?;
    let is_post = method == "POST" && header(headers, header::CONTENT_TYPE.as_str()) == "application/x-amz-json-1.1";
    let body = to_bytes(body, MOST_BYTES).await.map_err(|_| serialization("the body is too large or was cut off"))?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| serialization(&error.to_string()))?;
    let Some(misfits) = misfits(operation, &body).filter(|_| known && is_post) else {
        return Err(unknown_operation(shared, target, is_ours));
    };
    check_shape(shared, operation, &misfits, is_ours)?;
    check_caller(shared, access_key, operation, &body).await?;
    let faults = &shared.faults;
    if faults.throttled(operation) || !shared.state().buckets.take(operation, shared.now()) {
        return Err(Refusal::throttled());
    }
    if faults.server_fails(operation, When::BeforeEffect) {
        return Err(Refusal::server());
    }
    let result = match operation {
        "RegisterTaskDefinition" => definitions::register(shared, &body),
        "DescribeTaskDefinition" => definitions::describe(shared, &body),
        "ListTaskDefinitions" => definitions::list_all(shared, &body),
        "ListTaskDefinitionFamilies" => definitions::list_families(shared, &body),
        "DeregisterTaskDefinition" => definitions::deregister(shared, &body),
        "DeleteTaskDefinitions" => definitions::delete(shared, &body),
        "RunTask" => run_task::run(shared, &body),
        "StopTask" => tasks::stop(shared, &body),
        "DescribeTasks" => tasks::describe(shared, &body),
        "ListTasks" => tasks::list_tasks(shared, &body),
        "DescribeClusters" => tasks::describe_clusters(shared, &body),
        "GetLogEvents" => logs::get_log_events(shared, &body),
        _ => return Err(unknown_operation(shared, target, is_ours)),
    };
    if faults.server_fails(operation, When::AfterEffect) {
        return Err(Refusal::server());
    }
    result
}

/// A SigV4 header that names the scope of this service, and a key that may be one; the signature itself is not
/// computed.
fn check_signature<'a>(shared: &Shared, headers: &'a HeaderMap, service: &str) -> Result<&'a str, Refusal> {
    let authorization = header(headers, header::AUTHORIZATION.as_str());
    if authorization.is_empty() {
        let text = "Request is missing Authentication Token";
        return Err(Refusal::bad_request("MissingAuthenticationToken", text));
    }
    let incomplete = || {
        Refusal::bad_request(
            "IncompleteSignature",
            "Authorization header requires Credential, SignedHeaders and Signature.",
        )
    };
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(incomplete)?;
    let field = |name: &str| {
        fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('=')).filter(|v| !v.is_empty())
    };
    let credential = field("Credential").ok_or_else(incomplete)?;
    let (_, signature) = (field("SignedHeaders").ok_or_else(incomplete)?, field("Signature").ok_or_else(incomplete)?);
    if signature.len() != 64 || header(headers, "x-amz-date").is_empty() {
        return Err(incomplete());
    }
    let scope: Vec<_> = credential.split('/').collect();
    let access_key = scope[0];
    check_key(shared, access_key)?;
    if scope.len() != 5 || scope[2..] != [shared.options.region.as_str(), service, "aws4_request"] {
        let text = format!("Credential should be scoped to `{}/{service}/aws4_request`.", shared.options.region);
        return Err(Refusal::bad_request("InvalidSignatureException", text));
    }
    Ok(access_key)
}

fn unknown_operation(shared: &Shared, target: &str, is_ours: bool) -> Refusal {
    if is_ours {
        return violation(shared, format!("`{target}` is no operation of this sandbox"));
    }
    Refusal::bad_request("UnknownOperationException", "")
}

fn check_shape(shared: &Shared, operation: &str, misfits: &[Misfit], is_ours: bool) -> Result<(), Refusal> {
    for misfit in misfits {
        match misfit {
            Misfit::Unknown(path) if is_ours => {
                return Err(violation(shared, format!("{operation} has no member `{path}`")));
            }
            Misfit::Unknown(_) => {}
            Misfit::Type(path) => return Err(serialization(&format!("`{path}` has the wrong type"))),
            Misfit::Missing(path) => return Err(Refusal::parameter(format!("{path} can not be blank."))),
        }
    }
    Ok(())
}

fn violation(shared: &Shared, text: String) -> Refusal {
    shared.state().violations.push(text.clone());
    Refusal::unknown_to_the_sandbox(text)
}

fn serialization(text: &str) -> Refusal {
    Refusal::bad_request("SerializationException", text)
}

/// Our clients say who they are: the AWS SDK by its app name, all others by how their name starts.
fn is_our_own(headers: &HeaderMap) -> bool {
    let agents = [header(headers, header::USER_AGENT.as_str()), header(headers, "x-amz-user-agent")];
    agents.iter().any(|agent| agent.contains("app/mayfly") || agent.starts_with("mayfly"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
