//! Owns the containers that a job brings: its image and its services, checked before any of it reaches AWS.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Images, JobSettings};
use crate::gitlab::{Image, Job, Service, Variables};

use super::Arch;
use super::allowed::{Disallowed, allowed_id, allowed_image, allowed_service};
use super::registries::credentials;
use super::services::{AliasError, aliases};

/// The container that the scripts run in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// Expanded.
    pub image: String,
    /// `uid[:gid]` or a name; the image's own without it.
    pub user: Option<String>,
    /// The secret with the registry's credentials.
    pub credentials: Option<String>,
    /// With `FF_KUBERNETES_HONOR_ENTRYPOINT`: what starts the shell, an empty list for the image's own.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The job named no image.
    #[serde(default)]
    pub is_default: bool,
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
    #[error(
        "no image specified and no default set in config: write `image:` into .gitlab-ci.yml, or `image` into \
         `[settings]` of the fleet configuration"
    )]
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
    /// The runner's owner does not want it.
    #[error(
        "this runner's `{setting}` does not let a job run as `{id}`: name another, or ask for it in the fleet configuration"
    )]
    ForeignUser {
        /// `allowed_users` or `allowed_groups`.
        setting: &'static str,
        /// The user or group.
        id: String,
    },
    /// An image that is in none of the runner's lists.
    #[error(transparent)]
    Disallowed(#[from] Disallowed),
    /// A service that nobody could call by its name.
    #[error(transparent)]
    Alias(#[from] AliasError),
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

/// What the fleet says of containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub images: &'a Images,
    pub settings: &'a JobSettings,
}

/// The job's build container.
///
/// # Errors
/// See [`ContainerError`].
pub(super) fn build_container(job: &Job, variables: &Variables, rules: Rules<'_>) -> Result<BuildPlan, ContainerError> {
    let default = rules.settings.image.as_ref().or(rules.images.default.as_ref());
    let named = job.image.as_ref().filter(|image| !image.name.trim().is_empty());
    let image = match named {
        Some(image) => image.clone(),
        None => Image { name: default.cloned().ok_or(ContainerError::NoImage)?, ..Image::default() },
    };
    let name = image_name(&image, variables)?;
    if named.is_some() {
        allowed_image(&name, rules.settings, default.map(String::as_str))?;
    }
    let honoured = variables.flag("FF_KUBERNETES_HONOR_ENTRYPOINT", false);
    Ok(BuildPlan {
        user: user(&image, variables, rules.settings)?,
        credentials: credentials(&name, job, rules.images)?,
        entrypoint: honoured.then(|| image.entrypoint.clone()),
        is_default: named.is_none(),
        image: name,
    })
}

/// The job's services, in order.
///
/// # Errors
/// See [`ContainerError`].
pub(super) fn services(job: &Job, variables: &Variables, rules: Rules<'_>) -> Result<Vec<ServicePlan>, ContainerError> {
    if job.services.len() > MOST_SERVICES {
        return Err(ContainerError::TooManyServices { asked: job.services.len(), most: MOST_SERVICES });
    }
    job.services.iter().map(|service| service_container(service, job, variables, rules)).collect()
}

fn service_container(
    service: &Service,
    job: &Job,
    variables: &Variables,
    rules: Rules<'_>,
) -> Result<ServicePlan, ContainerError> {
    let image = image_name(&service.image, variables)?;
    if is_docker_in_docker(&image) {
        return Err(ContainerError::Privileged { image });
    }
    allowed_service(&image, rules.settings)?;
    aliases(service, variables)?;
    Ok(ServicePlan {
        user: user(&service.image, variables, rules.settings)?,
        credentials: credentials(&image, job, rules.images)?,
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

/// The `kubernetes` option is this executor's own; what is written for Docker counts without it.
fn user(image: &Image, variables: &Variables, settings: &JobSettings) -> Result<Option<String>, ContainerError> {
    let option = |executor: &str| {
        let value = image.executor_opts.get(executor).and_then(|options| options.get("user"))?;
        let text = value.as_str().map_or_else(|| value.to_string(), |text| variables.expand(text));
        Some(text).filter(|text| !text.is_empty())
    };
    let kubernetes = option("kubernetes");
    let root_counts = kubernetes.is_some();
    let Some(text) = kubernetes.or_else(|| option("docker")) else { return Ok(None) };
    let legal = |c: char| match root_counts {
        true => c.is_ascii_digit() || c == ':',
        false => c.is_ascii_alphanumeric() || "._-:".contains(c),
    };
    if text.len() > 64 || !text.chars().all(legal) {
        return Err(ContainerError::BadUser { user: printable(&text) });
    }
    // `00` is root, too: where numbers count, they are compared as numbers.
    let text = match root_counts {
        true => numbers(&text).ok_or_else(|| ContainerError::BadUser { user: printable(&text) })?,
        false => text,
    };
    let (user, group) = text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
    if !allowed_id(user, settings.allowed_users.as_deref(), root_counts) {
        return Err(ContainerError::ForeignUser { setting: "allowed_users", id: user.into() });
    }
    if let Some(group) = group.filter(|group| !group.is_empty())
        && !allowed_id(group, settings.allowed_groups.as_deref(), root_counts)
    {
        return Err(ContainerError::ForeignUser { setting: "allowed_groups", id: group.into() });
    }
    Ok(Some(text))
}

/// `uid` or `uid:gid`, each in its shortest form; an empty group is none.
fn numbers(text: &str) -> Option<String> {
    let number = |part: &str| part.parse::<u32>().ok().map(|number| number.to_string());
    match text.split_once(':') {
        Some((user, "")) => number(user),
        Some((user, group)) => Some(format!("{}:{}", number(user)?, number(group)?)),
        None => number(text),
    }
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
    use std::sync::LazyLock;

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

    static SETTINGS: LazyLock<JobSettings> = LazyLock::new(JobSettings::default);

    fn build(job: &Job) -> Result<BuildPlan, ContainerError> {
        build_by(job, &SETTINGS)
    }

    fn build_by(job: &Job, settings: &JobSettings) -> Result<BuildPlan, ContainerError> {
        build_container(job, &job.variables, Rules { images: &images(), settings })
    }

    #[test]
    fn an_image_is_expanded_and_checked() {
        for (image, expected) in [
            (json!({"name": "alpine:$TAG"}), Ok("alpine:3.20")),
            (json!({"name": "mine.test/a@sha256:00"}), Ok("mine.test/a@sha256:00")),
            (json!({"name": "alpine:$NOPE$EVIL"}), Err("`alpine:a b` is no image name")),
            (json!({"name": "$NOPE"}), Err("`` is no image name")),
            (json!({"name": "-v"}), Err("`-v` is no image name")),
            (json!(null), Err("no image specified and no default set in config")),
            (json!({"name": "a", "pull_policy": ["never"]}), Err("`pull_policy: never`")),
            (json!({"name": "a", "executor_opts": {"docker": {"user": "$EVIL"}}}), Err("no user")),
            (json!({"name": "theirs.test/a"}), Err("project 4 may not use the registry `theirs.test`")),
        ] {
            let job = job(&json!({"image": image}));
            match (build(&job), expected) {
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
            (json!({"docker": {"user": "dave"}, "kubernetes": {"user": "1001"}}), Some("1001")),
            (json!({"docker": {"user": "root"}}), Some("root")),
            (json!({}), None),
        ] {
            let job = job(&json!({"image": {"name": "a", "executor_opts": options}}));
            assert_eq!(build(&job).unwrap().user.as_deref(), user);
        }
    }

    #[test]
    fn the_owner_says_which_users_a_job_may_name() {
        let list = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect());
        let strict = JobSettings {
            allowed_users: list(&["1000", "node"]),
            allowed_groups: list(&["1000", "0"]),
            ..JobSettings::default()
        };
        for (options, settings, refused) in [
            (json!({"kubernetes": {"user": "0"}}), &*SETTINGS, Some("`allowed_users` does not let a job run as `0`")),
            (json!({"kubernetes": {"user": "000"}}), &SETTINGS, Some("`allowed_users` does not let a job run as `0`")),
            (json!({"kubernetes": {"user": "1:00"}}), &SETTINGS, Some("does not let a job run as `0`")),
            (json!({"kubernetes": {"user": "4294967296"}}), &SETTINGS, Some("`4294967296` is no user")),
            (json!({"kubernetes": {"user": "1:0"}}), &SETTINGS, Some("`allowed_groups` does not let a job run as `0`")),
            (json!({"kubernetes": {"user": "node"}}), &SETTINGS, Some("`node` is no user")),
            (json!({"kubernetes": {"user": "1000:0"}}), &strict, None),
            (json!({"kubernetes": {"user": "1001"}}), &strict, Some("as `1001`")),
            (json!({"docker": {"user": "node:1000"}}), &strict, None),
            (json!({"docker": {"user": "root"}}), &strict, Some("as `root`")),
        ] {
            let job = job(&json!({"image": {"name": "a", "executor_opts": options}}));
            let error = build_by(&job, settings).err().map(|error| error.to_string());
            match refused {
                Some(said) => assert!(error.as_ref().is_some_and(|e| e.contains(said)), "{options}: {error:?}"),
                None => assert_eq!(error, None, "{options}"),
            }
        }
    }

    #[test]
    fn an_entry_point_counts_only_with_its_flag() {
        for (flag, expected) in [("false", None), ("true", Some(vec!["/init".to_owned()]))] {
            let image = json!({"name": "a", "entrypoint": ["/init"]});
            let mut job = job(&json!({"image": image}));
            job.variables.push(crate::gitlab::Variable::public("FF_KUBERNETES_HONOR_ENTRYPOINT", flag));
            assert_eq!(build(&job).unwrap().entrypoint, expected);
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
            let result = services(&job, &job.variables, Rules { images: &images(), settings: &SETTINGS });
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
        let all = |job: &Job| services(job, &job.variables, Rules { images: &images(), settings: &SETTINGS });
        let with = |n: usize| job(&json!({"services": vec![json!({"name": "redis"}); n]}));
        assert_eq!(all(&with(7)).unwrap().len(), 7);
        assert!(all(&with(8)).is_err());
    }
}
