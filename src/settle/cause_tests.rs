//! What each stop code, reason and exit code of aws.md §2.7 becomes.

use serde_json::json;

use crate::gitlab::FailureReason::{self, *};
use crate::ledger::{StoppedContainer, StoppedTask};
use crate::plan::Plan;

use super::cause::{Cause, cause as cause_of};

const IMAGE: &str = "registry.test/not-found/denied-timeout:500";

fn plan() -> Plan {
    serde_json::from_value(json!({
        "size": {"cpu_units": 1024, "memory_mib": 2048}, "disk_gib": null, "arch": "amd64", "spot": false,
        "memory": {"helper_mib": 256, "build_mib": 1536, "service_mib": 256, "service_is_limit": false},
        "build": {"image": IMAGE, "user": null, "credentials": null},
        "services": [{"image": "eof:1", "user": null, "credentials": "arn:secret", "entrypoint": [], "command": []}],
        "words": [],
    }))
    .unwrap()
}

type Container<'a> = (&'a str, Option<i32>, Option<&'a str>);

fn stopped(code: &str, reason: &str, containers: &[Container<'_>]) -> StoppedTask {
    let container = |(name, exit_code, reason): &Container<'_>| StoppedContainer {
        name: (*name).into(),
        exit_code: *exit_code,
        reason: reason.map(str::to_owned),
    };
    StoppedTask {
        stop_code: (!code.is_empty()).then(|| code.into()),
        stopped_reason: reason.into(),
        containers: containers.iter().map(container).collect(),
        ..StoppedTask::default()
    }
}

fn exited(containers: &[Container<'_>]) -> Cause {
    cause_of(&stopped("EssentialContainerExited", "Essential container in task exited", containers), Some(&plan()))
}

fn build_reason(reason: &str) -> Cause {
    let containers = [("helper", Some(143), None), ("build", None, Some(reason)), ("svc-0", Some(0), None)];
    cause_of(&stopped("TaskFailedToStart", "Task failed to start", &containers), Some(&plan()))
}

#[track_caller]
fn check(cause: &Cause, (reason, transient, says): (FailureReason, bool, &str)) {
    assert_eq!((cause.reason, cause.transient), (reason, transient), "{}", cause.message);
    assert!(cause.message.contains(says), "`{says}` is not in `{}`", cause.message);
}

#[test]
fn a_pull_error_is_read_without_the_images_name() {
    let dial =
        "failed to do request: Head \"https://registry.test/v2/not-found/denied-timeout/manifests/500\": dial tcp";
    let dial_timeout = format!("{dial} 10.0.0.1:443: i/o timeout");
    let unavailable =
        format!("failed to resolve ref {IMAGE}: unexpected status from HEAD request: 503 Service Unavailable");
    let not_found = format!("failed to resolve ref {IMAGE}: {IMAGE}: not found");
    let platform = "image Manifest does not contain descriptor matching platform 'linux/amd64'";
    let extract = "failed to extract layer sha256:00ff: write /x/500: no space left on device";
    let docker_hub = "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed";
    let hub_limit = "429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.";
    let hostile = format!("failed to resolve ref {IMAGE}: no text that is known");
    for (text, expected) in [
        (dial_timeout.as_str(), (RunnerExternalDependencyFailure, true, "did not answer")),
        (&unavailable, (RunnerExternalDependencyFailure, true, "did not answer")),
        ("lookup r.test on 169.254.169.253:53: no such host", (RunnerExternalDependencyFailure, true, "route")),
        (&not_found, (RunnerConfigurationError, false, "does not exist in its registry")),
        ("manifest unknown", (RunnerConfigurationError, false, "check the name and the tag in `image:`")),
        ("no match for platform in manifest: not found", (RunnerConfigurationError, false, "the tag `arm64`")),
        (platform, (RunnerConfigurationError, false, "not built for `amd64`")),
        (extract, (ImagePullFailure, false, "20 GB is full, at the image")),
        (docker_hub, (RunnerConfigurationError, false, "`[[images.registries]]`")),
        ("unexpected status: 401 Unauthorized", (RunnerConfigurationError, false, "denies access")),
        (hub_limit, (RunnerExternalDependencyFailure, true, "too many images")),
        ("invalid reference format", (RunnerConfigurationError, false, "is not valid")),
        ("x509: certificate signed by unknown authority", (RunnerConfigurationError, false, "certificate")),
        (&hostile, (ImagePullFailure, true, "could not be pulled: retry the job")),
    ] {
        let text = format!("CannotPullContainerError: pull image manifest has been retried 5 time(s): {text}");
        let cause = build_reason(&text);
        check(&cause, expected);
        assert!(cause.message.contains(&format!("the image `{IMAGE}` of the `build` container")), "{}", cause.message);
        let of_task = cause_of(&stopped("TaskFailedToStart", &text, &[]), Some(&plan()));
        assert_eq!((of_task.reason, of_task.transient), (cause.reason, cause.transient), "{text}");
    }
}

#[test]
fn a_start_error_names_what_the_image_lacks() {
    let runc = "ResourceInitializationError: failed to create new container runtime task: failed to create shim task: OCI \
                runtime create failed: runc create failed: unable to start container process:";
    for (text, expected) in [
        (
            "exec: \"sh\": executable file not found in $PATH: unknown",
            (RunnerConfigurationError, false, "has no shell"),
        ),
        ("exec: \\\"sh\\\": executable file not found in", (RunnerConfigurationError, false, "has no shell")),
        (
            "exec: \"/init\": stat /init: no such file or directory",
            (RunnerConfigurationError, false, "program `/init`"),
        ),
        ("exec: \"/init\": permission denied: unknown", (RunnerConfigurationError, false, "to execute `/init`")),
        ("exec /bin/sh: exec format error", (RunnerConfigurationError, false, "the tag `arm64`")),
        ("unable to find user ci: no matching entries in passwd file", (RunnerConfigurationError, false, "`user`")),
        ("mkdir /x: no space left on device", (RunnerSystemFailure, false, "`disk-30g`")),
        ("errno 524: unknown", (RunnerSystemFailure, true, "could not be started: retry the job")),
    ] {
        check(&build_reason(&format!("CannotStartContainerError: {runc} {text}")), expected);
    }
}

#[test]
fn memory_that_ran_out_is_told_with_the_containers_figure() {
    let killed = Some("OutOfMemoryError: Container killed due to memory usage");
    for (name, expected) in [
        (
            "build",
            "used all of its limit of 1536 MiB and was killed: ask for more with a `mem-` tag, for example `mem-3g`",
        ),
        ("helper", "its limit of 256 MiB and was killed: it fetches sources and packs cache and artifacts; raise"),
        ("svc-0", "the `svc-0` container (image `eof:1`) used all of the task's 2048 MiB"),
    ] {
        let others = ["build", "helper", "svc-0"].into_iter().filter(|other| *other != name);
        let mut containers: Vec<Container<'_>> = others.map(|other| (other, Some(14), None)).collect();
        containers.push((name, Some(137), killed));
        check(&exited(&containers), (RunnerSystemFailure, false, expected));
    }
}

#[test]
fn stop_codes_and_reasons_of_the_task() {
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:launch";
    let denied = format!(
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: \
         AccessDeniedException: not authorized to perform: secretsmanager:GetSecretValue on {arn}"
    );
    let gone = format!(
        "ResourceNotFoundException: The task can’t retrieve the secret with ARN '{arn}' from AWS Secrets Manager."
    );
    let addresses = "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': InsufficientFreeAddressesInSubnet";
    let interface = "Timeout waiting for network interface provisioning to complete.";
    let network = "ResourceInitializationError: unable to pull secrets or registry auth: context deadline exceeded";
    let logs = "ResourceInitializationError: failed to validate logger args: ResourceNotFoundException: The specified log group does not exist.";
    let volume =
        "CannotCreateVolumeError: unable to copy contents to volume on host: containerd: context deadline exceeded";
    for (code, reason, expected) in [
        ("SpotInterruption", "Your Spot Task was interrupted.", (RunnerInterrupted, true, "`on-demand`")),
        ("InfrastructureHealth", "", (RunnerInterrupted, true, "out of service")),
        ("TerminationNotice", "notice", (RunnerInterrupted, true, "out of service")),
        ("", "ECS is performing maintenance on the underlying infrastructure", (RunnerInterrupted, true, "`retry: 2`")),
        ("UserInitiated", "Spot: manifest unknown, not found", (RunnerSystemFailure, false, "(ECS: Spot: manifest")),
        ("TaskFailedToStart", &denied, (RunnerConfigurationError, false, "`launch_key` in `[tasks]`")),
        ("TaskFailedToStart", &gone, (RunnerConfigurationError, false, "may read them")),
        ("TaskFailedToStart", network, (RunnerSystemFailure, true, "could not read its secrets: retry")),
        ("TaskFailedToStart", addresses, (RunnerSystemFailure, true, "no free address")),
        ("TaskFailedToStart", interface, (RunnerSystemFailure, true, "network interface")),
        ("TaskFailedToStart", logs, (RunnerConfigurationError, false, "`log_group`")),
        ("TaskFailedToStart", "ResourceInitializationError: new", (RunnerSystemFailure, true, "could not prepare")),
        ("TaskFailedToStart", volume, (RunnerSystemFailure, true, "could not create a volume")),
        ("TaskFailedToStart", "InternalError: x", (RunnerSystemFailure, true, "could not run the task")),
        ("TaskFailedToStart", "ContainerRuntimeError: x", (RunnerSystemFailure, true, "AWS Support")),
        ("TaskFailedToStart", "ContainerRuntimeTimeoutError: x", (RunnerSystemFailure, true, "in time")),
        ("NewCode", "news of 2030", (RunnerSystemFailure, true, "(ECS: news of 2030)")),
        ("", "", (RunnerSystemFailure, true, "no reason given")),
    ] {
        let cause = cause_of(&stopped(code, reason, &[("helper", None, None)]), Some(&plan()));
        check(&cause, expected);
        assert!(!cause.message.contains("123456789012"), "{}", cause.message);
    }
}

#[test]
fn exit_codes_that_follow_from_something_else_hide_nothing() {
    let no_shell = Some("CannotStartContainerError: exec: \"sh\": executable file not found in $PATH");
    let denied = Some("CannotPullContainerError: pull access denied");
    let stop_timeout = Some("CannotStopContainerError: no answer");
    for (helper, build, service, expected) in [
        ((Some(13), None), (None, no_shell), (Some(0), None), "has no shell"),
        ((Some(10), None), (Some(128), no_shell), (Some(0), None), "has no shell"),
        ((Some(70), None), (Some(137), stop_timeout), (Some(0), None), "could not fetch Mayfly's agent"),
        ((Some(13), None), (Some(1), None), (Some(137), None), "ended with exit code 1 before"),
        ((Some(10), None), (Some(126), None), (Some(0), None), "ended with exit code 126 before"),
        ((Some(13), None), (Some(0), None), (Some(0), None), "ended with exit code 0 before"),
        ((Some(10), None), (Some(143), None), (Some(0), None), "did not start within 10 minutes"),
        ((Some(2), None), (Some(143), None), (Some(0), None), "cannot work with its settings"),
        ((Some(12), None), (Some(143), None), (None, denied), "could not reach Mayfly's broker"),
        ((Some(13), None), (Some(143), None), (None, denied), "the secret of its `[[images.registries]]`"),
        ((Some(137), None), (Some(143), None), (Some(0), None), "the `helper` container ended with exit code 137"),
        ((Some(137), None), (Some(2), None), (Some(0), None), "the `helper` container ended with exit code 137"),
        ((Some(143), None), (Some(137), None), (Some(0), None), "ended with exit code 137 (killed)"),
    ] {
        let containers = [("helper", helper.0, helper.1), ("build", build.0, build.1), ("svc-0", service.0, service.1)];
        let cause = exited(&containers);
        assert!(cause.message.contains(expected), "`{expected}` is not in `{}`", cause.message);
    }
}
