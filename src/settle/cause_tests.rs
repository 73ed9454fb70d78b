//! Every way in which a task ends, and what its job's author reads.

use serde_json::json;

use crate::gitlab::FailureReason::{self, *};
use crate::ledger::{StoppedContainer, StoppedTask};
use crate::plan::Plan;

use super::cause;

/// A container: its name, exit code and reason.
type Container<'a> = (&'a str, Option<i32>, Option<&'a str>);

fn stopped(code: &str, reason: &str, containers: &[Container<'_>]) -> StoppedTask {
    let container = |(name, exit_code, reason): &Container<'_>| StoppedContainer {
        name: (*name).into(),
        exit_code: *exit_code,
        reason: reason.map(str::to_owned),
    };
    StoppedTask {
        stop_code: Some(code.into()),
        stopped_reason: reason.into(),
        containers: containers.iter().map(container).collect(),
        ..StoppedTask::default()
    }
}

fn plan(image: &str) -> Plan {
    serde_json::from_value(json!({
        "size": {"cpu_units": 1024, "memory_mib": 2048}, "disk_gib": null, "arch": "amd64", "spot": false,
        "memory": {"helper_mib": 256, "build_mib": 1792, "service_mib": 256, "service_is_limit": true},
        "build": {"image": image, "user": null, "credentials": null},
        "services": [{"image": "redis:8", "user": null, "credentials": null, "entrypoint": [], "command": []}],
        "words": []
    }))
    .expect("a plan")
}

const EXITED: &str = "EssentialContainerExited";
const EXITED_WORDS: &str = "Essential container in task exited";
const FAILED: &str = "TaskFailedToStart";

#[test]
fn each_cause_has_its_reason_and_its_advice() {
    let pull = |text: &str| stopped(FAILED, &format!("CannotPullContainerError: {text}"), &[]);
    let start = |text: &str| {
        let text = format!("CannotStartContainerError: {text}");
        stopped(FAILED, "Task failed to start", &[("build", None, Some(&text)), ("helper", Some(143), None)])
    };
    let setup = |text: &str| stopped(FAILED, &format!("ResourceInitializationError: {text}"), &[]);
    let exits = |helper: Option<i32>, build: Option<i32>| {
        stopped(EXITED, EXITED_WORDS, &[("helper", helper, None), ("build", build, None)])
    };
    let oom = "OutOfMemoryError: Container killed due to memory usage";
    let cases: Vec<(StoppedTask, FailureReason, bool, &str)> = vec![
        (stopped("SpotInterruption", "Your Spot Task was interrupted.", &[]), RunnerInterrupted, true, "`on-demand`"),
        (
            stopped(
                "TerminationNotice",
                "ECS is performing maintenance on the underlying infrastructure hosting the task.",
                &[],
            ),
            RunnerInterrupted,
            true,
            "took the task's machine away",
        ),
        (stopped("InfrastructureHealth", "bad host", &[]), RunnerInterrupted, true, "machine away"),
        (
            pull("failed to resolve ref docker.io/library/nope:1: docker.io/library/nope:1: not found"),
            RunnerConfigurationError,
            false,
            "was not found",
        ),
        (
            pull("pull image manifest has been retried 5 time(s): manifest unknown: manifest unknown"),
            RunnerConfigurationError,
            false,
            "check its name and tag",
        ),
        (
            pull("pull access denied for x, repository does not exist or may require 'docker login': denied"),
            RunnerConfigurationError,
            false,
            "[[images.registries]]",
        ),
        (
            pull("unexpected status from HEAD request to https://r.test/v2/a/manifests/1: 401 Unauthorized"),
            RunnerConfigurationError,
            false,
            "denies access",
        ),
        (
            pull("ref pull has been retried 1 time(s): toomanyrequests: You have reached your pull rate limit."),
            RunnerExternalDependencyFailure,
            true,
            "rate limit",
        ),
        (
            pull("image Manifest does not contain descriptor matching platform 'linux/amd64'"),
            RunnerConfigurationError,
            false,
            "`arm64` or `amd64`",
        ),
        (
            pull("failed to register layer: write /usr/lib/x: no space left on device"),
            ImagePullFailure,
            false,
            "`disk-` tag",
        ),
        (
            pull("failed to do request: dial tcp 10.0.0.1:443: i/o timeout"),
            RunnerExternalDependencyFailure,
            true,
            "did not answer",
        ),
        (
            pull("received unexpected HTTP status: 503 Service Unavailable"),
            RunnerExternalDependencyFailure,
            true,
            "did not answer",
        ),
        (pull("something new"), ImagePullFailure, true, "something new"),
        (start("exec: \"sh\": executable file not found in $PATH"), RunnerConfigurationError, false, "has no shell"),
        (start("exec /usr/bin/sh: exec format error"), RunnerConfigurationError, false, "another processor"),
        (
            start("unable to find user nobody2: no matching entries in passwd file"),
            RunnerConfigurationError,
            false,
            "image:docker:user",
        ),
        (
            start("exec: \"/entry\": stat /entry: no such file or directory"),
            RunnerConfigurationError,
            false,
            "`entrypoint:`",
        ),
        (start("write /x: no space left on device"), RunnerSystemFailure, false, "`disk-50g`"),
        (start("something new"), RunnerSystemFailure, true, "retry the job"),
        (
            stopped(EXITED, EXITED_WORDS, &[("build", Some(137), Some(oom)), ("helper", Some(143), None)]),
            RunnerSystemFailure,
            false,
            "1792 MiB",
        ),
        (
            stopped(EXITED, EXITED_WORDS, &[("helper", Some(137), Some(oom)), ("build", Some(0), None)]),
            RunnerSystemFailure,
            false,
            "KUBERNETES_HELPER_MEMORY_LIMIT",
        ),
        (
            setup(
                "unable to pull secrets or registry auth: AccessDeniedException: User is not authorized to perform: secretsmanager:GetSecretValue",
            ),
            RunnerSystemFailure,
            false,
            "RegistrySecretArns",
        ),
        (
            setup(
                "unable to pull secrets or registry auth: unable to retrieve secret from asm: context deadline exceeded",
            ),
            RunnerSystemFailure,
            true,
            "route to the internet",
        ),
        (
            setup("InsufficientFreeAddressesInSubnet: The subnet subnet-1 does not have enough free addresses"),
            RunnerSystemFailure,
            true,
            "no free address",
        ),
        (
            setup("Timeout waiting for network interface provisioning to complete."),
            RunnerSystemFailure,
            true,
            "retry the job",
        ),
        (
            setup(
                "failed to validate logger args: create stream: ResourceNotFoundException: The specified log group does not exist",
            ),
            RunnerSystemFailure,
            false,
            "log group",
        ),
        (stopped(FAILED, "ResourceNotFoundException: gone", &[]), RunnerSystemFailure, false, "does not find"),
        (stopped(EXITED, "InternalError: x", &[]), RunnerSystemFailure, true, "retry the job"),
        (stopped(EXITED, "ContainerRuntimeTimeoutError: x", &[]), RunnerSystemFailure, true, "retry the job"),
        (stopped(EXITED, "CannotInspectContainerError: x", &[]), RunnerSystemFailure, true, "retry the job"),
        (
            stopped(FAILED, "CannotCreateVolumeError: no space left on device", &[]),
            RunnerSystemFailure,
            false,
            "disk is full",
        ),
        (
            stopped("UserInitiated", "stopped in the console", &[("helper", Some(143), None)]),
            RunnerSystemFailure,
            false,
            "stopped in the console",
        ),
        (exits(Some(70), Some(143)), RunnerSystemFailure, true, "fetch Mayfly's agent"),
        (exits(Some(10), Some(127)), RunnerConfigurationError, false, "exit code 127"),
        (exits(Some(10), Some(143)), RunnerConfigurationError, false, "did not start Mayfly's agent"),
        (exits(Some(137), Some(2)), RunnerSystemFailure, true, "exit code 137 (killed)"),
        (exits(Some(137), Some(143)), RunnerSystemFailure, true, "exit code 137 (killed)"),
        (exits(Some(12), Some(0)), RunnerSystemFailure, true, "broker"),
        (exits(Some(14), Some(0)), RunnerSystemFailure, false, "could not report its outcome"),
        (exits(None, None), RunnerSystemFailure, true, "Essential container in task exited"),
        (stopped("SomethingNew", "", &[]), RunnerSystemFailure, true, "AWS gave no reason"),
    ];
    for (task, reason, transient, advice) in cases {
        let cause = cause(&task, Some(&plan("alpine:3")));
        assert_eq!((cause.reason, cause.transient), (reason, transient), "{task:?} {}", cause.message);
        assert!(cause.message.contains(advice), "`{advice}` is not in `{}`", cause.message);
        assert!(!cause.message.contains('\n') && cause.message.len() < 1000);
    }
}

#[test]
fn names_of_images_are_not_taken_for_reasons() {
    for image in ["not-found/denied:timeout", "spot:503", "r.test:500/oom/unauthorized@sha256:00ff", "denied", "eof"] {
        let plan = plan(image);
        let gone = stopped(FAILED, &format!("CannotPullContainerError: ref {image}: something new happened"), &[]);
        let cause = cause(&gone, Some(&plan));
        assert_eq!((cause.reason, cause.transient), (ImagePullFailure, true), "{image}: {}", cause.message);
    }
    let hostile = "toomanyrequests/denied:404";
    let text = format!("CannotPullContainerError: failed to resolve ref {hostile}: {hostile}: not found");
    assert!(cause(&stopped(FAILED, &text, &[]), Some(&plan(hostile))).message.contains("was not found"));
}

#[test]
fn the_cause_counts_and_not_what_follows_from_it() {
    let gone = "CannotPullContainerError: manifest unknown";
    let task = stopped(
        FAILED,
        "Essential container in task exited",
        &[
            ("helper", Some(10), None),
            ("build", None, Some(gone)),
            ("svc-0", Some(143), Some("OutOfMemoryError: Container killed due to memory usage")),
        ],
    );
    let found = cause(&task, Some(&plan("alpine:3")));
    assert!(found.message.starts_with("the image `alpine:3` could not be pulled"), "{}", found.message);
    assert!(!found.transient);
    // A service that was killed is not why the helper was.
    let task = stopped(
        EXITED,
        EXITED_WORDS,
        &[
            ("helper", Some(137), None),
            ("svc-0", Some(137), Some("OutOfMemoryError: Container killed due to memory usage")),
        ],
    );
    assert!(cause(&task, Some(&plan("alpine:3"))).message.contains("the helper container"));
    // Only a service has an error: it is named with its image.
    let task = stopped(FAILED, "Task failed to start", &[("svc-0", None, Some(gone))]);
    assert!(cause(&task, Some(&plan("alpine:3"))).message.contains("`redis:8`"));
}
