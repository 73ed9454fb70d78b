//! Builds the larger lists of a claim: image, services, artifacts, cache (gitlab-protocol.md §3.6).

use serde_json::{Map, Value, json};

use super::artifact_types::{default_name, format_of};
use crate::pipeline::{Artifacts, Cache, Image, Release, Service};

pub(super) fn image(image: &Image) -> Value {
    json!({
        "name": image.name,
        "entrypoint": image.entrypoint,
        "ports": [],
        "executor_opts": executor_opts(image),
        "pull_policy": image.pull_policy,
    })
}

pub(super) fn services(services: &[Service]) -> Vec<Value> {
    let variables = |service: &Service| {
        let variables = service.variables.as_ref()?;
        Some(variables.iter().map(|v| json!({ "key": v.key, "value": v.value })).collect::<Vec<_>>())
    };
    let service = |service: &Service| {
        let mut json = image(&service.image);
        json["alias"] = json!(service.alias);
        json["command"] = json!(service.command);
        json["variables"] = json!(variables(service));
        json
    };
    services.iter().map(service).collect()
}

/// The archive, then one entry per report, which is always uploaded (runner-behaviour.md §6.3).
pub(super) fn artifacts(artifacts: &Artifacts) -> Vec<Value> {
    let mut entries = Vec::new();
    if !artifacts.paths.is_empty() || artifacts.untracked {
        let mut archive = json!({
            "name": artifacts.name,
            "untracked": artifacts.untracked,
            "paths": artifacts.paths,
            "when": artifacts.when,
            "expire_in": artifacts.expire_in,
            "artifact_type": "archive",
            "artifact_format": "zip",
        });
        if !artifacts.exclude.is_empty() {
            archive["exclude"] = json!(artifacts.exclude);
        }
        entries.push(archive);
    }
    for (kind, paths) in &artifacts.reports {
        entries.push(json!({
            "name": default_name(kind),
            "untracked": null,
            "paths": paths,
            "when": "always",
            "expire_in": artifacts.expire_in,
            "artifact_type": kind,
            "artifact_format": format_of(kind),
        }));
    }
    entries
}

/// §3.6: the key carries the project's cache index and whether the ref is protected; `unprotect` stays here.
pub(super) fn cache(cache: &Cache, index: Option<u64>, protected: bool) -> Value {
    let protection = if protected && !cache.unprotect { "protected" } else { "non_protected" };
    let key = |key: &str| match index {
        Some(index) => format!("{key}-{index}-{protection}"),
        None => format!("{key}-{protection}"),
    };
    json!({
        "key": key(&cache.key),
        "untracked": cache.untracked,
        "paths": cache.paths,
        "policy": cache.policy,
        "when": cache.when,
        "fallback_keys": cache.fallback_keys.iter().map(|fallback| key(fallback)).collect::<Vec<_>>(),
    })
}

/// The command line that makes a release, its variables as the file has them: the runner expands them
/// (runner-behaviour.md §3.3).
pub(super) fn release_command(release: &Release) -> String {
    let mut command = "release-cli create".to_owned();
    let mut flag = |name: &str, value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        command.push_str(&format!(" --{name} \"{value}\""));
    };
    let optional = |value: &Option<String>| value.clone().into_iter();
    optional(&release.name).for_each(|name| flag("name", &name));
    flag("description", &release.description);
    flag("tag-name", &release.tag_name);
    optional(&release.tag_message).for_each(|message| flag("tag-message", &message));
    optional(&release.ref_name).for_each(|name| flag("ref", &name));
    optional(&release.released_at).for_each(|at| flag("released-at", &at));
    release.milestones.iter().for_each(|milestone| flag("milestone", milestone));
    for link in &release.links {
        let link: Map<String, Value> = link.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        flag("assets-link", &Value::from(link).to_string());
    }
    command
}

fn executor_opts(image: &Image) -> Value {
    let mut options = Map::new();
    let mut docker = Map::new();
    for (key, value) in [("platform", &image.docker_platform), ("user", &image.docker_user)] {
        if let Some(value) = value {
            docker.insert(key.to_owned(), json!(value));
        }
    }
    if !docker.is_empty() {
        options.insert("docker".to_owned(), docker.into());
    }
    if let Some(user) = &image.kubernetes_user {
        options.insert("kubernetes".to_owned(), json!({ "user": user }));
    }
    options.into()
}
