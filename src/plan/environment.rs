//! Builds the environment files of services: they alone of all containers get job variables before the agent runs.

use thiserror::Error;

use crate::gitlab::{Service, Variables};

/// Why a service's environment cannot be written: a sentence for the job's log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("variable `{variable}` of service `{service}` has a line break, which an environment file cannot hold")]
pub struct EnvironmentError {
    variable: String,
    service: String,
}

/// The `.env` file of `service`: the public ones of the job's `variables`, which are expanded, then its own, expanded against
/// all (runner-behaviour.md §3.9).
///
/// A job variable that the format cannot hold is left out: the service did not ask for it.
///
/// # Errors
/// When one of the service's own variables has a line break.
pub fn service_environment(variables: &Variables, service: &Service) -> Result<String, EnvironmentError> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| {
        lines.retain(|(known, _)| known != key);
        lines.push((key.to_owned(), value));
    };
    for variable in variables.iter().filter(|variable| variable.public && !variable.file) {
        if is_line(&variable.value) && is_name(&variable.key) {
            set(&variable.key, variable.value.clone());
        }
    }
    for variable in &service.variables {
        let value = if variable.raw { variable.value.clone() } else { variables.expand(&variable.value) };
        if !is_line(&value) || !is_name(&variable.key) {
            let printable = |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(EnvironmentError {
                variable: printable(&variable.key),
                service: printable(&service.image.name),
            });
        }
        set(&variable.key, value);
    }
    Ok(lines.into_iter().map(|(key, value)| format!("{key}={value}\n")).collect())
}

fn is_line(value: &str) -> bool {
    !value.contains(['\n', '\r', '\0'])
}

fn is_name(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Job;
    use serde_json::json;

    #[test]
    fn a_service_gets_public_variables_and_its_own() {
        let body = json!({"id": 1, "token": "t", "variables": [
            {"key": "OPEN", "value": "no", "public": true},
            {"key": "OPEN", "value": "yes", "public": true},
            {"key": "SECRET", "value": "hush", "public": false, "masked": true},
            {"key": "LINES", "value": "a\nb", "public": true},
        ], "services": [
            {"name": "postgres", "variables": [{"key": "PASSWORD", "value": "$SECRET"}]},
            {"name": "postgres", "variables": [{"key": "PASSWORD", "value": "a\nb"}]},
        ]});
        let job = Job::read(body.to_string().as_bytes()).unwrap();

        let env = service_environment(&job.variables, &job.services[0]).unwrap();

        assert_eq!(env, "OPEN=yes\nPASSWORD=hush\n");
        let error = service_environment(&job.variables, &job.services[1]).unwrap_err();
        assert!(error.to_string().contains("`PASSWORD` of service `postgres`"), "{error}");
    }
}
