//! Why AWS could not prepare a task: secrets, logs, network interfaces, volumes.

use crate::gitlab::FailureReason::{RunnerConfigurationError, RunnerSystemFailure};

use super::cause::{Cause, ecs_text};
use super::phrases::Phrases;

const NO_ADDRESS: [&str; 4] = [
    "insufficientfreeaddressesinsubnet",
    "insufficient free addresses",
    "not have enough free addresses",
    "no free addresses",
];
const TOO_MANY_INTERFACES: [&str; 2] = ["networkinterfacelimitexceeded", "maximum number of network interfaces"];
const INTERFACE: [&str; 5] = [
    "network interface provisioning",
    "create network interface",
    "attach network interface",
    "configure network interface",
    "eni provisioning",
];
const SECRET: [&str; 9] = [
    "unable to pull secrets or registry auth",
    "unable to retrieve secret",
    "unable to retrieve secrets",
    "unable to retrieve secret from asm",
    "failed to fetch secret",
    "failed to retrieve secret",
    "secrets manager can't find the specified secret",
    "can't retrieve the secret",
    "cannot retrieve the secret",
];
const LOG: [&str; 4] = [
    "failed to validate logger args",
    "failed to create cloudwatch log stream",
    "log group does not exist",
    "create stream has been retried",
];
const ENVIRONMENT_FILE: [&str; 3] =
    ["failed to download env files", "unable to download env files", "environment file"];
const DENIED_OR_MISSING: [&str; 7] = [
    "accessdeniedexception",
    "access denied",
    "not authorized to perform",
    "resourcenotfoundexception",
    "can't find the specified secret",
    "does not exist",
    "unable to assume the role",
];
const CAPACITY: [&str; 1] = ["capacity is unavailable at this time"];

/// The cause behind a text about the task as a whole; `None` for one that is not about its resources.
pub(super) fn resource_failure(phrases: &Phrases, text: &str) -> Option<Cause> {
    let ecs = ecs_text(text);
    let lasts = phrases.has(&DENIED_OR_MISSING);
    if phrases.has(&NO_ADDRESS) {
        let message = format!(
            "the task's subnet has no free address: retry the job when others have ended; the owner of this runner can \
             give it larger or more subnets (`subnets` in `[tasks]` of fleet.toml){ecs}"
        );
        return Some(Cause::transient(RunnerSystemFailure, message));
    }
    if phrases.has(&TOO_MANY_INTERFACES) {
        let message = format!(
            "the AWS account has no network interface left for the task: retry the job when others have ended; the owner \
             of this runner can raise the quota `Network interfaces per Region`{ecs}"
        );
        return Some(Cause::transient(RunnerSystemFailure, message));
    }
    if phrases.has(&INTERFACE) {
        let message =
            format!("AWS did not give the task its network interface, which happens at times: retry the job{ecs}");
        return Some(Cause::transient(RunnerSystemFailure, message));
    }
    if phrases.has(&SECRET) && lasts {
        let message = format!(
            "the task's execution role cannot read a secret: the owner of this runner has to check that the secrets of \
             `launch_key` in `[tasks]` and of `[[images.registries]]` in fleet.toml exist, and that the role may read \
             them{ecs}"
        );
        return Some(Cause::permanent(RunnerConfigurationError, message));
    }
    if phrases.has(&SECRET) {
        let message = format!(
            "the task could not read its secrets: retry the job; if it happens again, the owner of this runner has to \
             check the route from the task's subnets to AWS Secrets Manager and ECR{ecs}"
        );
        return Some(Cause::transient(RunnerSystemFailure, message));
    }
    if phrases.has(&LOG) {
        let message = format!(
            "the task could not write to its log group: the owner of this runner has to check that `log_group` in \
             `[tasks]` of fleet.toml exists, and that the task execution role may write to it{ecs}"
        );
        return Some(Cause::new(if lasts { RunnerConfigurationError } else { RunnerSystemFailure }, !lasts, message));
    }
    if phrases.has(&ENVIRONMENT_FILE) {
        let message = format!(
            "the task could not read the environment of its services from S3: retry the job; if it happens again, the \
             owner of this runner has to check that the task execution role may read the ledger's bucket{ecs}"
        );
        return Some(Cause::transient(RunnerSystemFailure, message));
    }
    if phrases.has(&CAPACITY) {
        let message = format!("Fargate had no capacity for the task: retry the job later{ecs}");
        return Some(Cause::transient(RunnerSystemFailure, message));
    }
    None
}
