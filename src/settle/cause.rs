//! Owns why a task stopped, read from ECS' codes and words (aws.md §2.7).

use crate::gitlab::FailureReason;

use crate::ledger::StoppedTask;

/// Why a task stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What GitLab hears, if it must hear of it.
    pub reason: FailureReason,
    /// Another task may fare better.
    pub transient: bool,
    /// The sentence for the job's log.
    pub message: String,
}

/// Reads the cause from how the task and its containers ended.
pub fn cause(stopped: &StoppedTask) -> Cause {
    let words = words(stopped);
    let cause = |reason, transient, message: String| Cause { reason, transient, message };
    if stopped.stop_code.as_deref() == Some("SpotInterruption") || stopped.stopped_reason.contains("Spot") {
        let message = "the spot machine was taken back by AWS; use the tag `on-demand`, or `retry:`".to_owned();
        return cause(FailureReason::RunnerInterrupted, true, message);
    }
    if let Some(at) = words.find("CannotPullContainerError") {
        return pull_failure(&words[at..]);
    }
    if words.contains("executable file not found") && words.contains("\"sh\"") {
        let message = "the image has no shell, and a job's script needs one: use an image that has `sh`".to_owned();
        return cause(FailureReason::RunnerConfigurationError, false, message);
    }
    if words.contains("OutOfMemory") {
        let message = "a container was killed because its memory ran out; ask for more with a `mem-` tag".to_owned();
        return cause(FailureReason::RunnerSystemFailure, false, message);
    }
    if words.contains("ResourceInitializationError") || words.contains("secrets") && words.contains("unable to") {
        // Networks and secrets that are not set up look like this, and so does one task in a hundred by bad luck.
        return cause(FailureReason::RunnerSystemFailure, true, format!("the task could not be set up: {words}"));
    }
    if words.contains("performing maintenance") || stopped.stop_code.as_deref() == Some("InfrastructureHealth") {
        return cause(FailureReason::RunnerInterrupted, true, format!("AWS took the machine away: {words}"));
    }
    if stopped.stop_code.as_deref() == Some("UserInitiated") {
        return cause(FailureReason::RunnerSystemFailure, false, format!("the task was stopped: {words}"));
    }
    for name in ["helper", "build"] {
        if let Some(code) = stopped.container(name).and_then(|container| container.exit_code) {
            let signal = match code {
                137 => " (killed)",
                143 => " (terminated)",
                _ => "",
            };
            let message = format!("the {name} container ended with exit code {code}{signal} before the job was done");
            return cause(FailureReason::RunnerSystemFailure, true, message);
        }
    }
    cause(FailureReason::RunnerSystemFailure, true, format!("the task did not start: {words}"))
}

/// An image that is not there or not ours will not come by waiting; a registry that does not answer may.
fn pull_failure(words: &str) -> Cause {
    let lower = words.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    let message = format!("the image could not be pulled: {words}");
    if has(&[
        "not found",
        "manifest unknown",
        "access denied",
        "unauthorized",
        "denied",
        "does not exist",
        "no basic auth",
    ]) {
        return Cause { reason: FailureReason::RunnerConfigurationError, transient: false, message };
    }
    if has(&[
        "toomanyrequests",
        "timeout",
        "timed out",
        "connection",
        "i/o",
        "eof",
        "no such host",
        "tls",
        "5xx",
        "503",
        "500",
    ]) {
        return Cause { reason: FailureReason::RunnerExternalDependencyFailure, transient: true, message };
    }
    Cause { reason: FailureReason::ImagePullFailure, transient: !has(&["no space left"]), message }
}

/// All that ECS says, for people: the task's reason, then the containers'.
fn words(stopped: &StoppedTask) -> String {
    let mut words = vec![stopped.stopped_reason.clone()];
    let containers = stopped.containers.iter().filter_map(|container| {
        let reason = container.reason.as_ref()?;
        (!stopped.stopped_reason.contains(reason.as_str())).then(|| format!("{}: {reason}", container.name))
    });
    words.extend(containers);
    words.retain(|text| !text.is_empty());
    let text = words.join("; ");
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
    let text = without_accounts(&text);
    if text.is_empty() { "ECS gave no reason".into() } else { text }
}

/// A job's log may be public: AWS account ids, 12 digits, are nobody else's business.
fn without_accounts(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() == 12 { "<account>" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::StoppedContainer;

    #[test]
    fn account_ids_are_not_told() {
        assert_eq!(
            without_accounts("role arn:aws:iam::123456789012:role/x 2026"),
            "role arn:aws:iam::<account>:role/x 2026"
        );
    }

    fn stopped(code: &str, reason: &str, containers: &[(&str, Option<i32>, Option<&str>)]) -> StoppedTask {
        let container = |(name, exit_code, reason): &(&str, Option<i32>, Option<&str>)| StoppedContainer {
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

    #[test]
    fn causes_are_told_apart_by_what_helps() {
        use FailureReason::*;
        let gone = "CannotPullContainerError: pull image manifest has been retried: manifest unknown";
        let busy = "CannotPullContainerError: toomanyrequests: You have reached your pull rate limit";
        let full = "CannotPullContainerError: no space left on device";
        for (task, reason, transient) in [
            (stopped("SpotInterruption", "Your Spot Task was interrupted.", &[]), RunnerInterrupted, true),
            (stopped("TaskFailedToStart", "", &[("build", None, Some(gone))]), RunnerConfigurationError, false),
            (stopped("TaskFailedToStart", busy, &[]), RunnerExternalDependencyFailure, true),
            (stopped("TaskFailedToStart", full, &[]), ImagePullFailure, false),
            (stopped("TaskFailedToStart", "ResourceInitializationError: eni", &[]), RunnerSystemFailure, true),
            (
                stopped(
                    "EssentialContainerExited",
                    "Essential container in task exited",
                    &[("helper", Some(137), Some("OutOfMemoryError: Container killed due to memory usage"))],
                ),
                RunnerSystemFailure,
                false,
            ),
            (
                stopped(
                    "EssentialContainerExited",
                    "Essential container in task exited",
                    &[("helper", Some(70), None)],
                ),
                RunnerSystemFailure,
                true,
            ),
            (stopped("UserInitiated", "stopped in the console", &[]), RunnerSystemFailure, false),
            (
                stopped(
                    "TaskFailedToStart",
                    "",
                    &[(
                        "build",
                        None,
                        Some("CannotStartContainerError: exec: \"sh\": executable file not found in $PATH"),
                    )],
                ),
                RunnerConfigurationError,
                false,
            ),
        ] {
            let cause = cause(&task);
            assert_eq!((cause.reason, cause.transient), (reason, transient), "{task:?} {}", cause.message);
        }
    }
}
