//! Owns the containers that a job brings: its image and its services, checked before any of it reaches AWS.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Images;
use crate::gitlab::{Image, Job, Service, Variables};

use super::Arch;

/// The container that the scripts run in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// Expanded.
    pub image: String,
    /// `uid[:gid]` or a name; the image's own without it.
    pub user: Option<String>,
    /// The secret with the registry's credentials.
    pub credentials: Option<String>,
}

/// A container beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Expanded.
    pub image: String,
    /// As the job says it.
    pub user: Option<String>,
    /// The secret with the registry's credentials.
    pub credentials: Option<String>,
    /// Replaces the image's.
    pub entrypoint: Vec<String>,
    /// Replaces the image's.
    pub command: Vec<String>,
}

/// Why a container is refused: each is a sentence for the job's log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContainerError {
    /// No image anywhere.
    #[error("the job names no image: set `image:` in .gitlab-ci.yml, or `images.default` in the fleet configuration")]
    NoImage,
    /// An image name that nobody can pull.
    #[error("`{name}` is no image name that can be pulled: look at `image:` and the variables in it")]
    BadImage {
        /// What came out of the expansion, made printable.
        name: String,
    },
    /// Docker in Docker.
    #[error(
        "the service `{image}` needs a privileged machine, which Fargate has not: build images with kaniko, or with \
             buildctl or `docker buildx` against a remote builder, or keep this job on another runner by its tags"
    )]
    Privileged {
        /// The service's image.
        image: String,
    },
    /// The daemon of the machine itself.
    #[error(
        "{place} names the host's Docker socket, which a Fargate task has not: build images with kaniko, or with \
             buildctl or `docker buildx` against a remote builder, or keep this job on another runner by its tags"
    )]
    HostSocket {
        /// Where the job names it.
        place: String,
    },
    /// Too many.
    #[error("a Fargate task has room for {most} services beside the job, not {asked}")]
    TooManyServices {
        /// How many there are.
        asked: usize,
        /// The most.
        most: usize,
    },
    /// Fargate always pulls.
    #[error("`pull_policy: never` cannot be kept: a Fargate task starts on a new machine and pulls every image")]
    NeverPull,
    /// No processor of Fargate's.
    #[error("Fargate has no machine for `platform: {platform}`: write `linux/amd64` or `linux/arm64`")]
    Platform {
        /// What the job says, made printable.
        platform: String,
    },
    /// The job says two different things.
    #[error("`platform: linux/{platform}` and the tag or variable for {asked} contradict each other: keep one")]
    TwoPlatforms {
        /// From `image:docker:platform`.
        platform: Arch,
        /// From `MAYFLY_ARCH` or a tag.
        asked: Arch,
    },
    /// No user name.
    #[error("`{user}` is no user that a container can run as: write a name or `uid:gid`")]
    BadUser {
        /// What came out of the expansion.
        user: String,
    },
    /// The registry is for others.
    #[error(
        "project {project} may not use the registry `{host}`: ask for it in `images.registries` of the fleet configuration"
    )]
    ForeignRegistry {
        /// The registry.
        host: String,
        /// The project.
        project: u64,
    },
}

/// What fits into a task beside helper and build (aws.md §1.4).
const MOST_SERVICES: usize = 7;

/// The job's build container.
///
/// # Errors
/// See [`ContainerError`].
pub(super) fn build_container(job: &Job, variables: &Variables, images: &Images) -> Result<BuildPlan, ContainerError> {
    let image = match &job.image {
        Some(image) if !image.name.trim().is_empty() => image.clone(),
        _ => Image { name: images.default.clone().ok_or(ContainerError::NoImage)?, ..Image::default() },
    };
    let name = image_name(&image, variables)?;
    let credentials = credentials(&name, job, images)?;
    Ok(BuildPlan { user: user(&image, variables)?, image: name, credentials })
}

/// The job's services, in order.
///
/// # Errors
/// See [`ContainerError`].
pub(super) fn services(job: &Job, variables: &Variables, images: &Images) -> Result<Vec<ServicePlan>, ContainerError> {
    if job.services.len() > MOST_SERVICES {
        return Err(ContainerError::TooManyServices { asked: job.services.len(), most: MOST_SERVICES });
    }
    job.services.iter().map(|service| service_container(service, job, variables, images)).collect()
}

fn service_container(
    service: &Service,
    job: &Job,
    variables: &Variables,
    images: &Images,
) -> Result<ServicePlan, ContainerError> {
    let image = image_name(&service.image, variables)?;
    if is_docker_in_docker(&image) {
        return Err(ContainerError::Privileged { image });
    }
    Ok(ServicePlan {
        user: user(&service.image, variables)?,
        credentials: credentials(&image, job, images)?,
        entrypoint: service.image.entrypoint.clone(),
        command: service.command.clone(),
        image,
    })
}

fn image_name(image: &Image, variables: &Variables) -> Result<String, ContainerError> {
    if !image.pull_policy.is_empty() && image.pull_policy.iter().all(|policy| policy == "never") {
        return Err(ContainerError::NeverPull);
    }
    let name = variables.expand(image.name.trim());
    let before_digest = name.split('@').next().unwrap_or_default();
    let fits = !before_digest.is_empty() && before_digest.len() <= 255 && name.len() <= 400;
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if fits && name.chars().all(legal) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(name);
    }
    Err(ContainerError::BadImage { name: printable(&name) })
}

/// The processor that `image:docker:platform` names; `None` where the job does not care.
///
/// # Errors
/// When it is none that Fargate has.
pub(super) fn platform(job: &Job, variables: &Variables) -> Result<Option<Arch>, ContainerError> {
    let options = job.image.as_ref().and_then(|image| image.executor_opts.get("docker"));
    let Some(platform) = options.and_then(|o| o.get("platform")).and_then(|p| p.as_str()) else { return Ok(None) };
    match variables.expand(platform).as_str() {
        "" => Ok(None),
        "linux/amd64" => Ok(Some(Arch::Amd64)),
        "linux/arm64" | "linux/arm64/v8" => Ok(Some(Arch::Arm64)),
        other => Err(ContainerError::Platform { platform: printable(other) }),
    }
}

fn user(image: &Image, variables: &Variables) -> Result<Option<String>, ContainerError> {
    let option = |executor: &str| image.executor_opts.get(executor).and_then(|o| o.get("user"));
    let Some(value) = option("docker").or_else(|| option("kubernetes")) else { return Ok(None) };
    let text = value.as_str().map_or_else(|| value.to_string(), |text| variables.expand(text));
    if text.is_empty() {
        return Ok(None);
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if text.len() <= 64 && text.chars().all(legal) {
        Ok(Some(text))
    } else {
        Err(ContainerError::BadUser { user: printable(&text) })
    }
}

fn credentials(image: &str, job: &Job, images: &Images) -> Result<Option<String>, ContainerError> {
    let Some(registry) = images.registries.iter().find(|r| image.split('/').next() == Some(r.host.as_str())) else {
        return Ok(None);
    };
    if registry.projects.contains(&job.info.project_id) {
        return Ok(Some(registry.credentials.clone()));
    }
    Err(ContainerError::ForeignRegistry { host: registry.host.clone(), project: job.info.project_id })
}

/// `docker:dind`, `docker:24-dind`, `registry.test/mirror/docker:dind-rootless`.
fn is_docker_in_docker(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    let Some((name, tag)) = last.split_once(':') else { return false };
    name == "docker" && tag.split(['-', '@']).any(|part| part == "dind")
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Registry;
    use serde_json::json;

    fn job(fields: &serde_json::Value) -> Job {
        let mut body = json!({"id": 1, "token": "t", "job_info": {"project_id": 4},
            "variables": [{"key": "TAG", "value": "3.20"}, {"key": "EVIL", "value": "a b\n\u{7}"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Job::read(body.to_string().as_bytes()).unwrap()
    }

    fn images() -> Images {
        let registry =
            |host: &str, project| Registry { host: host.into(), credentials: "arn:s".into(), projects: vec![project] };
        Images { registries: vec![registry("mine.test", 4), registry("theirs.test", 5)], ..Images::default() }
    }

    #[test]
    fn an_image_is_expanded_and_checked() {
        for (image, expected) in [
            (json!({"name": "alpine:$TAG"}), Ok("alpine:3.20")),
            (json!({"name": "mine.test/a@sha256:00"}), Ok("mine.test/a@sha256:00")),
            (json!({"name": "alpine:$NOPE$EVIL"}), Err("`alpine:a b` is no image name")),
            (json!({"name": "$NOPE"}), Err("`` is no image name")),
            (json!({"name": "-v"}), Err("`-v` is no image name")),
            (json!(null), Err("the job names no image")),
            (json!({"name": "a", "pull_policy": ["never"]}), Err("`pull_policy: never`")),
            (json!({"name": "a", "executor_opts": {"docker": {"user": "$EVIL"}}}), Err("no user")),
            (json!({"name": "theirs.test/a"}), Err("project 4 may not use the registry `theirs.test`")),
        ] {
            let job = job(&json!({"image": image}));
            match (build_container(&job, &job.variables, &images()), expected) {
                (Ok(plan), Ok(name)) => assert_eq!(plan.image, name),
                (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{error}"),
                (got, _) => panic!("{image}: {got:?}"),
            }
        }
    }

    #[test]
    fn users_come_as_text_or_number() {
        for (options, user) in [
            (json!({"docker": {"user": "node"}}), Some("node")),
            (json!({"kubernetes": {"user": 1000}}), Some("1000")),
            (json!({"kubernetes": {"user": "1000:1000"}}), Some("1000:1000")),
            (json!({}), None),
        ] {
            let job = job(&json!({"image": {"name": "a", "executor_opts": options}}));
            assert_eq!(build_container(&job, &job.variables, &images()).unwrap().user.as_deref(), user);
        }
    }

    #[test]
    fn docker_in_docker_is_refused_with_the_way_out() {
        for (image, refused) in [
            ("docker:dind", true),
            ("docker:24.0-dind", true),
            ("mine.test/docker:dind-rootless", true),
            ("docker:24", false),
            ("mydocker:dind", false),
            ("redis:7", false),
        ] {
            let job = job(&json!({"image": {"name": "a"}, "services": [{"name": image}]}));
            let result = services(&job, &job.variables, &images());
            assert_eq!(result.is_err(), refused, "{image}");
            if let Err(error) = result {
                assert!(error.to_string().contains("kaniko"), "{error}");
            }
        }
    }

    #[test]
    fn a_platform_is_one_of_fargates() {
        for (name, expected) in [
            ("linux/amd64", Ok(Some(Arch::Amd64))),
            ("linux/arm64/v8", Ok(Some(Arch::Arm64))),
            ("", Ok(None)),
            ("windows/amd64", Err("Fargate has no machine for `platform: windows/amd64`")),
        ] {
            let options = json!({"docker": {"platform": name}});
            let job = job(&json!({"image": {"name": "a", "executor_opts": options}}));
            match (platform(&job, &job.variables), expected) {
                (Ok(arch), Ok(expected)) => assert_eq!(arch, expected, "{name}"),
                (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{error}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn seven_services_fit() {
        let with = |n: usize| job(&json!({"services": vec![json!({"name": "redis"}); n]}));
        assert_eq!(services(&with(7), &Variables::default(), &images()).unwrap().len(), 7);
        assert!(services(&with(8), &Variables::default(), &images()).is_err());
    }
}
