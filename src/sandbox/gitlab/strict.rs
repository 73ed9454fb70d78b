//! Refuses, from clients of ours, every word that GitLab does not declare: 501 and a violation.
//!
//! Foreign clients are not held to it: GitLab ignores undeclared fields (gitlab-protocol.md §3.1, §5.1).

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value};

use super::call::{Call, message};
use super::shared::Shared;

/// What an endpoint declares, or GitLab Runner sends to it.
pub(super) struct Declared {
    /// Parameters by path; `info.labels.*` stands for every key below.
    pub fields: &'static [&'static str],
    /// Headers that carry a token.
    pub tokens: &'static [&'static str],
}

/// Answers 501 if a client of ours says more than is declared.
pub(super) fn check(shared: &Arc<Shared>, call: &Call, declared: &Declared) -> Result<(), Response> {
    if !call.own {
        return Ok(());
    }
    for name in call.headers.keys().map(|name| name.as_str()) {
        if carries_a_token(name) && !declared.tokens.contains(&name) {
            return Err(violation(shared, call, &format!("header `{name}`")));
        }
    }
    match undeclared(&call.params, "", declared.fields) {
        Some(field) => Err(violation(shared, call, &format!("field `{field}`"))),
        None => Ok(()),
    }
}

/// Records that a client of ours broke the protocol.
pub(super) fn violation(shared: &Arc<Shared>, call: &Call, what: &str) -> Response {
    let what = format!("{} {}: {what}", call.method, call.path);
    tracing::warn!("a client of ours broke GitLab's protocol: {what}");
    let response = message(StatusCode::NOT_IMPLEMENTED, &format!("Not declared by GitLab: {what}"));
    shared.change(|state| state.violations.push(what));
    response
}

/// `X-Gitlab-Event-UUID` is among them: echoed, it blocks the hook that it came with (§1.9).
fn carries_a_token(header: &str) -> bool {
    let named = ["token", "authorization", "cookie", "api-key", "secret"];
    header.starts_with("x-gitlab-") || named.iter().any(|word| header.contains(word))
}

fn undeclared(params: &Map<String, Value>, above: &str, fields: &[&str]) -> Option<String> {
    params.iter().find_map(|(key, value)| {
        let path = format!("{above}{key}");
        if fields.contains(&path.as_str()) || fields.contains(&format!("{above}*").as_str()) {
            return None;
        }
        let below = format!("{path}.");
        match value {
            Value::Object(inner) if fields.iter().any(|field| field.starts_with(&below)) => {
                undeclared(inner, &below, fields)
            }
            _ => Some(path),
        }
    })
}

/// `info` of a runner (§3.1, features §3.2, labels §2.3).
macro_rules! with_info {
    ($($field:literal),* $(,)?) => {
        &[
            $($field,)*
            "info.name", "info.version", "info.revision", "info.platform", "info.architecture", "info.executor",
            "info.shell", "info.config.gpus", "info.labels.*",
            "info.features.variables", "info.features.image", "info.features.services", "info.features.artifacts",
            "info.features.cache", "info.features.fallback_cache_keys", "info.features.shared",
            "info.features.upload_multiple_artifacts", "info.features.upload_raw_artifacts", "info.features.session",
            "info.features.terminal", "info.features.refspecs", "info.features.masking", "info.features.proxy",
            "info.features.raw_variables", "info.features.artifacts_exclude", "info.features.multi_build_steps",
            "info.features.trace_reset", "info.features.trace_checksum", "info.features.trace_size",
            "info.features.vault_secrets", "info.features.cancelable", "info.features.return_exit_code",
            "info.features.service_variables", "info.features.service_multiple_aliases",
            "info.features.image_executor_opts", "info.features.service_executor_opts",
            "info.features.cancel_gracefully", "info.features.native_steps_integration",
            "info.features.two_phase_job_commit", "info.features.job_inputs",
        ]
    };
}
pub(super) use with_info;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_below_a_declared_object_must_be_declared_itself() {
        let fields: &[&str] = with_info!["token"];
        let of = |value: Value| undeclared(value.as_object().expect("an object"), "", fields);

        assert_eq!(of(json!({ "token": "t", "info": { "name": "n", "labels": { "a": "b" } } })), None);
        assert_eq!(of(json!({ "info": { "features": { "canceled": true } } })), Some("info.features.canceled".into()));
        assert_eq!(of(json!({ "info": "text" })), Some("info".into()));
        assert_eq!(of(json!({ "last_update": "x" })), Some("last_update".into()));
    }

    #[test]
    fn token_headers_are_told_from_transport_headers() {
        let tokens = ["job-token", "runner-token", "x-gitlab-event-uuid", "authorization", "private-token"];
        assert!(tokens.into_iter().all(carries_a_token));
        assert!(!["host", "accept", "content-range", "x-request-id", "user-agent"].into_iter().any(carries_a_token));
    }
}
