//! Owns which credentials an image is pulled with: the fleet's, by registry and project; never a job's own.
//!
//! Fargate pulls before anything of the job runs, by secrets that it reads itself: what a job brings as
//! `DOCKER_AUTH_CONFIG` or as GitLab's own credentials comes too late, and its log says so.

use serde_json::Value;

use crate::config::{Images, Registry};
use crate::gitlab::{Job, Variables};

use super::container::ContainerError;

/// The registry that images without a host come from.
const DOCKER_HUB: &str = "docker.io";

/// The secret that `image` is pulled with; the registry with the longest name that fits counts.
///
/// # Errors
/// When the registry is there for other projects only.
pub(super) fn credentials(image: &str, job: &Job, images: &Images) -> Result<Option<String>, ContainerError> {
    let image = whole_name(image);
    let fitting = images.registries.iter().filter(|registry| lies_in(&image, &registry_name(&registry.host)));
    let Some(registry) = fitting.max_by_key(|registry| registry_name(&registry.host).len()) else { return Ok(None) };
    match registry.projects.contains(&job.info.project_id) {
        true => Ok(Some(registry.credentials.clone())),
        // Whoever may not use the account pulls as anybody may.
        false if registry_name(&registry.host).split('/').next() == Some(DOCKER_HUB) => Ok(None),
        false => Err(foreign(registry, job)),
    }
}

/// Warnings for those of `images` that have no credentials here, and would have the job's under GitLab Runner.
pub(super) fn unused_credentials(job: &Job, variables: &Variables, images: &[&str]) -> Vec<String> {
    let theirs = auth_config(variables);
    let mut warnings = Vec::new();
    for image in images {
        let name = whole_name(image);
        let registry = name.split('/').next().unwrap_or_default();
        let source = if theirs.iter().any(|host| lies_in(&name, host)) {
            "`DOCKER_AUTH_CONFIG`"
        } else if job.credentials.iter().any(|c| c.kind == "registry" && lies_in(&name, &registry_name(&c.url))) {
            "the job's own credentials"
        } else {
            continue;
        };
        let text = format!(
            "`{image}` is pulled without {source}: Fargate pulls as anybody may, or with a secret for `{registry}` in \
             `images.registries` of the fleet configuration"
        );
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
    warnings
}

/// The registries that `DOCKER_AUTH_CONFIG` names.
fn auth_config(variables: &Variables) -> Vec<String> {
    let text = variables.get("DOCKER_AUTH_CONFIG").unwrap_or_default();
    let config: Value = serde_json::from_str(text).unwrap_or_default();
    let keys = |section: &str| config[section].as_object().into_iter().flatten().map(|(key, _)| registry_name(key));
    keys("auths").chain(keys("credHelpers")).collect()
}

fn foreign(registry: &Registry, job: &Job) -> ContainerError {
    ContainerError::ForeignRegistry { host: registry.host.clone(), project: job.info.project_id }
}

/// The image's name with its registry: `alpine` is `docker.io/library/alpine`.
fn whole_name(image: &str) -> String {
    match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            format!("{}/{rest}", registry_name(host))
        }
        Some(_) => format!("{DOCKER_HUB}/{image}"),
        None => format!("{DOCKER_HUB}/library/{image}"),
    }
}

/// A registry as people write it, without scheme and without the port that goes without saying.
fn registry_name(host: &str) -> String {
    let host = host.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = host.split_once('/').map_or((host, ""), |(host, path)| (host, path));
    let host = host.strip_suffix(":443").unwrap_or(host);
    match (host, path) {
        ("index.docker.io" | "registry-1.docker.io" | "hub.docker.com", "" | "v1" | "v2") => DOCKER_HUB.into(),
        (_, "") => host.into(),
        _ => format!("{host}/{path}"),
    }
}

fn lies_in(image: &str, registry: &str) -> bool {
    image.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(variables: Value) -> Job {
        let credentials = json!([{"type": "registry", "url": "registry.gitlab.test:5050", "password": "x"}]);
        let body = json!({"id": 1, "token": "t", "job_info": {"project_id": 4}, "variables": variables,
            "credentials": credentials});
        Job::read(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_longest_registry_that_fits_counts() {
        let registry =
            |host: &str, project| Registry { host: host.into(), credentials: host.into(), projects: vec![project] };
        let registries = vec![
            registry("mine.test", 4),
            registry("mine.test/secret", 5),
            registry("https://index.docker.io/v1/", 4),
            registry("docker.io/theirs", 5),
            registry("gitlab.test:443", 4),
        ];
        let images = Images { registries, ..Images::default() };
        for (image, expected) in [
            ("mine.test/a:1", Ok(Some("mine.test"))),
            ("mine.test/secret/a", Err(())),
            ("mine.test.evil/a", Ok(None)),
            ("mine.testing/a", Ok(None)),
            ("alpine:3.20", Ok(Some("https://index.docker.io/v1/"))),
            ("bitnami/redis", Ok(Some("https://index.docker.io/v1/"))),
            ("theirs/app", Ok(None)),
            ("gitlab.test/group/dependency_proxy/containers/alpine", Ok(Some("gitlab.test:443"))),
            ("gitlab.test:443/group/dependency_proxy/containers/alpine", Ok(Some("gitlab.test:443"))),
            ("localhost/a", Ok(None)),
        ] {
            let found = credentials(image, &job(json!([])), &images);
            assert_eq!(found.map_err(drop), expected.map(|o: Option<&str>| o.map(str::to_owned)), "{image}");
        }
    }

    #[test]
    fn credentials_that_come_too_late_are_told_once_and_without_their_value() {
        let config =
            json!({"auths": {"https://private.test": {"auth": "c2VjcmV0"}}, "credHelpers": {"ecr.test": "ecr"}});
        let job = job(json!([{"key": "DOCKER_AUTH_CONFIG", "value": config.to_string()}]));
        let tell = |images: &[&str]| unused_credentials(&job, &job.variables, images);
        assert!(tell(&["alpine", "public.test/a"]).is_empty());
        for (image, source) in [
            ("private.test/a:1", "`private.test/a:1` is pulled without `DOCKER_AUTH_CONFIG`"),
            ("ecr.test/a", "without `DOCKER_AUTH_CONFIG`"),
            ("registry.gitlab.test:5050/g/p", "without the job's own credentials"),
        ] {
            let told = tell(&[image, image]);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(source) && told[0].contains("images.registries"), "{told:?}");
            assert!(!told[0].contains("c2VjcmV0"));
        }
    }
}
