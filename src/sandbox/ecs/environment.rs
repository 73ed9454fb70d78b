//! Owns what is in a container's environment, and what the execution role reads for it (aws.md §2.3, §2.6, §13).

use std::collections::BTreeMap;

use serde_json::Value;

use super::access::{check_file, check_secret};
use super::json::{list, pairs, text};
use super::state::Shared;
use super::task::{Container, Task};

/// Names and values.
pub(super) type Environment = BTreeMap<String, String>;

/// The environment of one container, as Fargate would give it; or why the task cannot start.
///
/// Files lose against `environment`, and a definition loses against an override. There is no credentials endpoint:
/// our tasks have no task role.
pub(super) async fn resolve(shared: &Shared, task: &Task, container: &Container) -> Result<Environment, String> {
    let (definition, over) = task.container_definition(&container.name);
    let mut environment = Environment::new();
    for owner in [definition, over] {
        for file in list(owner, "environmentFiles") {
            let arn = text(file, "value").unwrap_or_default();
            environment.extend(read_file(shared, task, arn).await?);
        }
    }
    for owner in [definition, over] {
        environment.extend(pairs(owner, "environment").map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    for secret in list(definition, "secrets") {
        let name = text(secret, "name").unwrap_or_default();
        let value_from = text(secret, "valueFrom").unwrap_or_default();
        environment.insert(name.to_owned(), read_secret(shared, task, value_from).await?);
    }
    for value in environment.values_mut() {
        if let Some(place) = (shared.options.place)(value) {
            *value = place;
        }
    }
    environment.extend(given_by_fargate(shared, task, container));
    Ok(environment)
}

/// The one value that no other container has.
pub(super) fn metadata_uri(metadata_url: &str, container: &Container) -> String {
    format!("{metadata_url}/v4/{}", container.metadata_id)
}

fn given_by_fargate(shared: &Shared, task: &Task, container: &Container) -> Environment {
    let uri = metadata_uri(&shared.metadata_url, container);
    let region = shared.options.region.clone();
    let host = format!("ip-{}.{region}.compute.internal", task.private_ip().replace('.', "-"));
    let given = [
        ("AWS_DEFAULT_REGION", region.clone()),
        ("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE".to_owned()),
        ("AWS_REGION", region),
        ("ECS_CONTAINER_METADATA_URI", uri.replacen("/v4/", "/v3/", 1)),
        ("ECS_CONTAINER_METADATA_URI_V4", uri),
        ("HOSTNAME", host),
    ];
    given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn read_file(shared: &Shared, task: &Task, arn: &str) -> Result<Environment, String> {
    let failed = |cause: String| {
        format!(
            "ResourceInitializationError: failed to download env files: file download command: non empty error stream: `{arn}`: {cause}"
        )
    };
    check_file(shared, task, arn).await.map_err(failed)?;
    let bytes = (shared.options.fetch_s3)(arn.to_owned()).await.map_err(|error| failed(error.to_string()))?;
    let content = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    Ok(parse_file(&content))
}

/// `NAME=value` lines; no quotes, no escapes; `#` starts a comment only at the start of a line.
fn parse_file(content: &str) -> Environment {
    let lines = content.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| !name.trim().is_empty());
    pairs.map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect()
}

async fn read_secret(shared: &Shared, task: &Task, value_from: &str) -> Result<String, String> {
    let failed = |cause: &str| {
        format!(
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: {cause}"
        )
    };
    check_secret(shared, task, value_from).await.map_err(|cause| failed(&cause))?;
    if let Some(secret) = shared.options.secrets.get(value_from) {
        return Ok(secret.clone());
    }
    // `<secret ARN>:<JSON key>:<stage>:<version>`, where an ARN has seven parts.
    let parts: Vec<&str> = value_from.split(':').collect();
    let arn = parts[..parts.len().min(7)].join(":");
    let known = match shared.options.secrets.get(&arn) {
        Some(secret) => Some(secret.clone()),
        None => (shared.options.fetch_secret)(arn).await.map_err(|error| failed(&error.to_string()))?,
    };
    let value = known.and_then(|secret| match parts.get(7).copied().unwrap_or_default() {
        "" => Some(secret),
        key => match serde_json::from_str::<Value>(&secret).ok()?.get(key)? {
            Value::String(value) => Some(value.clone()),
            other => Some(other.to_string()),
        },
    });
    value.ok_or_else(|| {
        failed(&format!("ResourceNotFoundException: Secrets Manager can't find the specified secret: `{value_from}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_has_no_quotes_and_no_escapes() {
        let file = parse_file("# a comment\nA=1\n\nB=\"two # words\"\r\nC=x=y\nnothing\n=lost\n");

        let expected = [("A", "1"), ("B", "\"two # words\""), ("C", "x=y")];
        assert_eq!(file, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
