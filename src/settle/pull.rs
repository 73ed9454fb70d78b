//! Why an image could not be pulled.

use crate::gitlab::FailureReason::{ImagePullFailure, RunnerConfigurationError, RunnerExternalDependencyFailure};

use super::cause::{Cause, ecs_text};
use super::failed_container::FailedContainer;
use super::phrases::Phrases;

pub(super) const OTHER_PLATFORM: [&str; 7] = [
    "does not contain descriptor matching platform",
    "no match for platform in manifest",
    "no matching manifest for",
    "does not match the specified platform",
    "does not match the detected host platform",
    "cannot be used on this platform",
    "exec format error",
];
pub(super) const DISK_FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];
const RATE_LIMITED: [&str; 4] = ["toomanyrequests", "too many requests", "pull rate limit", "rate exceeded"];
const DENIED: [&str; 15] = [
    "access denied",
    "access is denied",
    "access to the resource is denied",
    "denied:",
    "unauthorized:",
    "401 unauthorized",
    "403 forbidden",
    "unauthorized to access repository",
    "authentication required",
    "authorization failed",
    "insufficient_scope",
    "no basic auth credentials",
    "not authorized to perform",
    "accessdeniedexception",
    "check that the role has the permissions",
];
const NOT_FOUND: [&str; 8] = [
    "manifest unknown",
    "name unknown",
    "not found",
    "404 not found",
    "does not exist in the registry",
    "repository does not exist",
    "can't find the image",
    "cannot find the image",
];
const BAD_NAME: [&str; 2] = ["invalid reference format", "invalid reference"];
const BAD_CERTIFICATE: [&str; 3] =
    ["certificate signed by unknown authority", "certificate has expired", "certificate is not valid for"];
const NO_ANSWER: [&str; 24] = [
    "i/o timeout",
    "tls handshake timeout",
    "connection refused",
    "connection reset by peer",
    "connection timed out",
    "connection issue between",
    "no route to host",
    "network is unreachable",
    "no such host",
    "server misbehaving",
    "temporary failure in name resolution",
    "context deadline exceeded",
    "client.timeout exceeded",
    "request canceled while waiting for connection",
    "context canceled",
    "unexpected eof",
    ": eof",
    "broken pipe",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway timeout",
    "504 gateway time-out",
    "service unavailable",
];

/// The cause behind a pull error with this text.
///
/// An image that does not exist or that is not for us stays so; a registry that does not answer may answer later.
pub(super) fn pull_failure(phrases: &Phrases, text: &str, container: FailedContainer<'_>) -> Cause {
    let image = container.image();
    let setting = container.image_setting();
    let ecs = ecs_text(text);
    // The order counts: "no match for platform in manifest: not found" is about the platform, and Docker Hub answers
    // "pull access denied" both for a private image and for one that does not exist.
    if phrases.has(&OTHER_PLATFORM) {
        return other_platform(text, container);
    }
    if phrases.has(&DISK_FULL) {
        return disk_full(ImagePullFailure, text, container);
    }
    if phrases.has(&RATE_LIMITED) {
        let message = format!(
            "the registry refused {image} because too many images were pulled from it: retry the job later, or ask the \
             owner of this runner for credentials in `[[images.registries]]` of fleet.toml or for a pull-through \
             cache{ecs}"
        );
        return Cause::transient(RunnerExternalDependencyFailure, message);
    }
    if phrases.has(&DENIED) {
        let message = format!("the registry denies access to {image}: {}{ecs}", way_in(container));
        return Cause::permanent(RunnerConfigurationError, message);
    }
    if phrases.has(&NOT_FOUND) {
        let message = format!("{image} does not exist in its registry: check the name and the tag in {setting}{ecs}");
        return Cause::permanent(RunnerConfigurationError, message);
    }
    if phrases.has(&BAD_NAME) {
        let message = format!("the name of {image} is not valid: check {setting}{ecs}");
        return Cause::permanent(RunnerConfigurationError, message);
    }
    if phrases.has(&BAD_CERTIFICATE) {
        let message = format!(
            "Fargate does not trust the certificate of the registry of {image}: use a registry with a publicly trusted \
             certificate{ecs}"
        );
        return Cause::permanent(RunnerConfigurationError, message);
    }
    if phrases.has(&NO_ANSWER) {
        let message = format!(
            "the registry of {image} did not answer: retry the job; if it happens again, ask the owner of this runner \
             whether the task's subnets have a route to the registry{ecs}"
        );
        return Cause::transient(RunnerExternalDependencyFailure, message);
    }
    let message = format!("{image} could not be pulled: retry the job, and check {setting} if it happens again{ecs}");
    Cause::transient(ImagePullFailure, message)
}

/// The image's processor is not the task's.
pub(super) fn other_platform(text: &str, container: FailedContainer<'_>) -> Cause {
    let (is, other) = container.processors();
    let image = container.image();
    let message = format!(
        "{image} is not built for `{is}`, the processor of this task: add the tag `{other}` to the job, or use an image \
         for `linux/{is}`{}",
        ecs_text(text)
    );
    Cause::permanent(RunnerConfigurationError, message)
}

/// The task's disk has no room for its images and volumes.
pub(super) fn disk_full(reason: crate::gitlab::FailureReason, text: &str, container: FailedContainer<'_>) -> Cause {
    let (gib, tag) = container.disk();
    let message = format!(
        "the task's disk of {gib} GB is full, at {}: ask for more with a `disk-` tag, for example `{tag}`{}",
        container.image(),
        ecs_text(text)
    );
    Cause::permanent(reason, message)
}

fn way_in(container: FailedContainer<'_>) -> &'static str {
    if container.is_helper() {
        return "the owner of this runner has to let the task execution role pull `images.helper` of fleet.toml";
    }
    match container.has_credentials() {
        Some(true) => {
            "check the name; the owner of this runner has to check that the account in the secret of its \
             `[[images.registries]]` in fleet.toml may read the image"
        }
        _ if container.is_in_ecr() => {
            "check the name; the owner of this runner has to let the task execution role pull from that ECR repository"
        }
        _ => {
            "check the name; for a private image the owner of this runner has to add the registry with its credentials to \
             `[[images.registries]]` in fleet.toml"
        }
    }
}
