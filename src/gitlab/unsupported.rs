//! Refuses what Mayfly cannot run, by the keyword's name: a job is never green without having done what it says.

use super::{FailureReason, Image, Job, Outcome, SecretSource};

/// Parts of a claim without which a job still does what its author wrote: who asked for it, and how it is shown.
const HARMLESS: [&str; 4] = ["job_info", "features", "credentials", "policy_options"];

/// Why this job cannot run here at all; `None` when it can.
///
/// What needs AWS to be answered (sizes, images, names of services) is asked elsewhere.
pub fn unsupported(job: &Job) -> Option<Outcome> {
    let refuse = |message: String| Some(Outcome::failed(FailureReason::RunnerConfigurationError, message));

    if let Some(part) = job.unread.iter().find(|part| !HARMLESS.iter().any(|harmless| part.field.starts_with(harmless)))
    {
        return refuse(format!("this runner cannot read `{}` of the job: {}", part.field, part.reason));
    }
    if job.has_run {
        return refuse("`run:` is not supported by this runner: use `script:`".into());
    }
    if let Some(secret) = job.secrets.iter().find(|secret| matches!(secret.source, SecretSource::Other(_))) {
        return refuse(format!(
            "`secrets:{}` is not supported by this runner (`{}`): use `vault` or `aws_secrets_manager`, or CI/CD variables",
            secret.source.keyword(),
            secret.name
        ));
    }
    if !job.inputs.is_empty() {
        let names = job.inputs.join("`, `");
        return refuse(format!("job `inputs:` are not supported by this runner (`{names}`): use `variables:`"));
    }
    if job.step("script").is_none_or(|step| step.script.is_empty()) {
        return refuse("the job has no `script:`".into());
    }
    if let Some(option) = job.image.as_ref().and_then(unknown_option) {
        return refuse(format!("`image:{option}` is not supported by this runner"));
    }
    let service = job.services.iter().find_map(|service| Some((unknown_option(&service.image)?, &service.image.name)));
    if let Some((option, name)) = service {
        return refuse(format!("`services:{option}` is not supported by this runner (service `{name}`)"));
    }
    None
}

/// The first option of an image that is none of `docker:platform`, `docker:user` and `kubernetes:user`.
fn unknown_option(image: &Image) -> Option<String> {
    image.executor_opts.iter().find_map(|(executor, options)| {
        let known: &[&str] = match executor.as_str() {
            "docker" => &["platform", "user"],
            "kubernetes" => &["user"],
            _ => &[],
        };
        match options {
            serde_json::Value::Object(options) => {
                let unknown = options.keys().find(|key| !known.contains(&key.as_str()))?;
                Some(format!("{executor}:{unknown}"))
            }
            serde_json::Value::Null => None,
            _ => Some(executor.clone()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn outcome(change: Value) -> Option<Outcome> {
        let mut claim = json!({"id": 1, "token": "t", "steps": [{"name": "script", "script": ["true"]}]});
        for (key, value) in change.as_object().unwrap() {
            claim[key] = value.clone();
        }
        unsupported(&Job::read(claim.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn an_ordinary_job_is_not_refused() {
        for change in [
            json!({}),
            json!({"run": null, "secrets": {}, "inputs": [], "image": {"name": "alpine"}}),
            json!({"image": {"name": "a", "executor_opts": {"docker": {"platform": "linux/amd64", "user": "1"}}}}),
            json!({"services": [{"name": "redis", "executor_opts": {"kubernetes": {"user": "1"}, "docker": null}}]}),
            json!({"features": {"trace_sections": "what"}}),
            json!({"credentials": [3]}),
            json!({"secrets": {"DATABASE": {"vault": {"path": "x"}}}}),
        ] {
            assert_eq!(outcome(change.clone()), None, "{change}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_by_its_name() {
        for (change, word) in [
            (json!({"run": [{"name": "x", "script": "true"}]}), "`run:`"),
            (
                json!({"secrets": {"DATABASE": {"azure_key_vault": {}}}}),
                "`secrets:azure_key_vault` is not supported by this",
            ),
            (json!({"secrets": {"DATABASE": {"gcp_secret_manager": {}}}}), "(`DATABASE`)"),
            (json!({"secrets": {"DATABASE": {"vault": "x"}}}), "cannot read `secrets:DATABASE`"),
            (json!({"secrets": "x"}), "cannot read `secrets`"),
            (json!({"inputs": [{"key": "size", "value": 1}]}), "`inputs:`"),
            (json!({"steps": []}), "`script:`"),
            (json!({"steps": [{"name": "script", "script": []}]}), "`script:`"),
            (json!({"steps": [{"name": "after_script", "script": ["true"]}]}), "`script:`"),
            (json!({"image": {"name": "a", "executor_opts": {"docker": {"gpus": "all"}}}}), "`image:docker:gpus`"),
            (json!({"image": {"name": "a", "executor_opts": {"podman": {"user": "1"}}}}), "`image:podman:user`"),
            (json!({"services": [{"name": "r", "executor_opts": {"docker": 3}}]}), "`services:docker`"),
            (json!({"variables": [{"key": 3}]}), "`variables[0]`"),
            (json!({"cache": "none"}), "`cache`"),
        ] {
            match outcome(change.clone()) {
                Some(Outcome::Failed { reason: FailureReason::RunnerConfigurationError, exit_code: None, message }) => {
                    assert!(message.contains(word), "{message}");
                }
                other => panic!("{change}: {other:?}"),
            }
        }
    }
}
