//! Makes the tokens of `id_tokens:` and the claim's `secrets` (runner-behaviour.md Appendix A).
//!
//! The tokens have the shape and the claims of GitLab's, but nobody can check their signature: there is no key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::expand::expand;
use super::pipeline_row::Pipeline;
use super::predefined::{Sent, last};
use super::state::{Job, State};

/// The variables of the job's `id_tokens:`, masked as GitLab's are.
pub(super) fn id_tokens(state: &State, job: &Job, pipeline: &Pipeline, known: &[Sent]) -> Vec<Sent> {
    if state.withholds_secrets {
        return Vec::new();
    }
    let tokens = job.definition.id_tokens.iter();
    tokens.map(|(name, token)| Sent::secret(name, id_token(state, job, pipeline, &audience(token, known)))).collect()
}

/// The claim's `secrets`.
pub(super) fn secrets(state: &State, job: &Job, variables: &[Sent]) -> Value {
    if state.withholds_secrets || job.definition.secrets.is_empty() {
        return json!({});
    }
    let tokens: Vec<&str> = job.definition.id_tokens.iter().map(|(name, _)| name.as_str()).collect();
    let secrets = job.definition.secrets.iter().map(|(name, secret)| {
        // GitLab takes the only token where the secret names none.
        let token = match (secret["token"].as_str(), &tokens[..]) {
            (Some(token), _) => token.to_owned(),
            (None, [only]) => format!("${only}"),
            (None, _) => String::new(),
        };
        (name.clone(), payload(secret, &token, variables))
    });
    Value::Object(secrets.collect())
}

fn payload(secret: &Value, token: &str, variables: &[Sent]) -> Value {
    let variable = |name: &str| last(variables, name);
    let mut payload = json!({});
    for (keyword, value) in secret.as_object().into_iter().flatten() {
        match keyword.as_str() {
            "vault" => {
                let mut vault = vault(value);
                vault["server"] = json!({
                    "url": variable("VAULT_SERVER_URL"),
                    "namespace": variable("VAULT_NAMESPACE"),
                    "auth": {
                        "name": "jwt",
                        "path": variable("VAULT_AUTH_PATH").unwrap_or_else(|| "jwt".to_owned()),
                        "data": { "jwt": token, "role": variable("VAULT_AUTH_ROLE") },
                    },
                });
                payload["vault"] = vault;
            }
            "aws_secrets_manager" => {
                let mut aws = if value.is_string() { json!({ "secret_id": value }) } else { value.clone() };
                aws["server"] = json!({
                    "region": variable("AWS_REGION"),
                    "jwt": token,
                    "role_arn": variable("AWS_ROLE_ARN"),
                    "role_session_name": variable("AWS_ROLE_SESSION_NAME"),
                });
                payload["aws_secrets_manager"] = aws;
            }
            "token" => {}
            _ => payload[keyword] = value.clone(),
        }
    }
    payload
}

/// `production/db/password@ops` is the field `password` of `production/db` in the engine at `ops`.
fn vault(value: &Value) -> Value {
    let Some(text) = value.as_str() else { return value.clone() };
    let (path, engine) = text.rsplit_once('@').unwrap_or((text, "kv-v2"));
    let (path, field) = path.rsplit_once('/').unwrap_or(("", path));
    json!({ "engine": { "name": "kv-v2", "path": engine }, "path": path, "field": field })
}

fn audience(token: &Value, known: &[Sent]) -> Value {
    let expanded = |text: &str| Value::String(expand(text, |key| last(known, key)));
    match &token["aud"] {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(expanded).collect(),
        Value::String(text) => expanded(text),
        other => other.clone(),
    }
}

fn id_token(state: &State, job: &Job, pipeline: &Pipeline, audience: &Value) -> String {
    let project = state.project(job.project).map_or("", |project| project.path.as_str());
    let namespace = project.rsplit_once('/').map_or("", |(namespace, _)| namespace);
    let kind = if pipeline.tag { "tag" } else { "branch" };
    let from = job.started_at.map_or(0, |at| at.as_second());
    let claims = json!({
        "namespace_id": "2",
        "namespace_path": namespace,
        "project_id": job.project.to_string(),
        "project_path": project,
        "user_id": "1",
        "user_login": "root",
        "user_email": "admin@example.com",
        "pipeline_id": pipeline.id.to_string(),
        "pipeline_source": pipeline.source.as_str(),
        "job_id": job.id.to_string(),
        "ref": pipeline.ref_name,
        "ref_type": kind,
        "ref_path": format!("refs/{}/{}", if pipeline.tag { "tags" } else { "heads" }, pipeline.ref_name),
        "ref_protected": state.is_protected(job.project, &pipeline.ref_name).to_string(),
        "runner_id": job.runner,
        "runner_environment": "self-hosted",
        "sha": pipeline.sha,
        "project_visibility": "private",
        "jti": format!("{}-{}", job.id, from),
        "iss": state.url,
        "iat": from,
        "nbf": from - 5,
        "exp": from + i64::try_from(job.timeout.as_secs()).unwrap_or(3600) + 300,
        "sub": format!("project_path:{project}:ref_type:{kind}:ref:{}", pipeline.ref_name),
        "aud": audience,
    });
    let header = json!({ "kid": "sandbox", "typ": "JWT", "alg": "RS256" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    // As long as a signature with a key of 2,048 bits.
    let signature: Vec<u8> =
        (0_u8..8).flat_map(|i| Sha256::digest(format!("{}{i}{signed}", state.instance_uuid)).to_vec()).collect();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
