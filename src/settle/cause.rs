//! Why a task stopped, read from ECS's codes and texts (aws.md §2.7).

use crate::gitlab::FailureReason;
use crate::ledger::{StoppedContainer, StoppedTask};
use crate::plan::Plan;

use super::exits::exit_cause;
use super::pull::pull_failure;
use super::words::{has, phrases, readable};

/// Why a task stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What GitLab gets, if it must be told.
    pub reason: FailureReason,
    /// Another task may fare better.
    pub transient: bool,
    /// The sentence for the job's log.
    pub message: String,
}

/// ECS's names of errors, which begin a reason.
const ERRORS: [&str; 13] = [
    "CannotPullContainerError",
    "CannotPullECRContainerError",
    "CannotStartContainerError",
    "CannotCreateContainerError",
    "CannotStopContainerError",
    "CannotInspectContainerError",
    "CannotCreateVolumeError",
    "ContainerRuntimeError",
    "ContainerRuntimeTimeoutError",
    "ResourceInitializationError",
    "ResourceNotFoundException",
    "InternalError",
    "OutOfMemoryError",
];

/// Reads the cause from how the task and its containers ended; `plan` is what the task was made of.
pub fn cause(stopped: &StoppedTask, plan: Option<&Plan>) -> Cause {
    let code = stopped.stop_code.as_deref().unwrap_or_default();
    let task_phrases = phrases(&stopped.stopped_reason, plan);
    let words = readable(&stopped.stopped_reason);
    if code == "SpotInterruption" || has(&task_phrases, "your spot task was interrupted") {
        let message = "AWS took the spot capacity back before the job was done: retry it, add `retry: {when: \
                       runner_system_failure}`, or use the tag `on-demand`";
        return interrupted(message.to_owned());
    }
    let is_maintained = has(&task_phrases, "performing maintenance on the underlying infrastructure");
    if is_maintained || matches!(code, "InfrastructureHealth" | "TerminationNotice") {
        return interrupted(format!("AWS took the task's machine away: retry the job ({words})"));
    }
    if let Some((container, error, text)) = first_error(stopped) {
        return error_cause(container, error, text, plan);
    }
    if code == "UserInitiated" {
        let message = format!("the task was stopped by someone with access to the AWS account ({words})");
        return Cause { reason: FailureReason::RunnerSystemFailure, transient: false, message };
    }
    exit_cause(stopped, plan).unwrap_or_else(|| {
        let words = if words.is_empty() { "AWS gave no reason".to_owned() } else { words };
        Cause {
            reason: FailureReason::RunnerSystemFailure,
            transient: true,
            message: format!("the task did not start ({words})"),
        }
    })
}

fn interrupted(message: String) -> Cause {
    Cause { reason: FailureReason::RunnerInterrupted, transient: true, message }
}

/// The error that stopped the task: the one of an essential container, else the task's own. What a container that was
/// only stopped with the others says comes after it.
fn first_error(stopped: &StoppedTask) -> Option<(Option<&str>, &'static str, &str)> {
    let essential = ["build", "helper"].into_iter().filter_map(|name| stopped.container(name));
    let of = |container: &'_ StoppedContainer| -> Option<&'static str> { error_of(container.reason.as_deref()?) };
    let found = essential.clone().find_map(|container| {
        let error = of(container)?;
        Some((Some(container.name.as_str()), error, container.reason.as_deref()?))
    });
    if found.is_some() {
        return found;
    }
    if let Some(error) = error_of(&stopped.stopped_reason) {
        return Some((None, error, &stopped.stopped_reason));
    }
    // A service does not stop its task. Its error is the cause only where no essential container has ended by itself.
    let ended = essential.clone().any(|container| container.exit_code.is_some_and(|code| code != 143));
    let mut services = stopped.containers.iter().filter(|container| container.name.starts_with("svc-"));
    let service = services.find(|container| of(container).is_some()).filter(|_| !ended)?;
    Some((Some(&service.name), of(service)?, service.reason.as_deref()?))
}

/// The name of an error at the beginning of a text, or behind another one's.
fn error_of(text: &str) -> Option<&'static str> {
    ERRORS
        .into_iter()
        .filter_map(|error| Some((text.find(&format!("{error}:")).or_else(|| (text == error).then_some(0))?, error)))
        .min()
        .map(|(_, error)| error)
}

fn error_cause(container: Option<&str>, error: &str, text: &str, plan: Option<&Plan>) -> Cause {
    let place = place(container, plan);
    let found = phrases(text, plan);
    let words = readable(text);
    let system = |transient, message: String| Cause { reason: FailureReason::RunnerSystemFailure, transient, message };
    match error {
        "CannotPullContainerError" | "CannotPullECRContainerError" => {
            pull_failure(&image_of(container, plan), &found, &words)
        }
        "OutOfMemoryError" => out_of_memory(container, plan),
        "CannotStartContainerError" | "CannotCreateContainerError" => {
            start_failure(&place, &image_of(container.or(Some("build")), plan), &found, &words)
        }
        "ResourceInitializationError" => setup_failure(&found, &words),
        "CannotCreateVolumeError" if has(&found, "no space left on device") => disk_full(&place),
        "ResourceNotFoundException" => system(
            false,
            format!(
                "AWS does not find something that the task needs; the owner of Mayfly's stack must look at it ({words})"
            ),
        ),
        _ => system(true, format!("AWS could not run {place}; retry the job ({words})")),
    }
}

/// A container for people.
fn place(container: Option<&str>, plan: Option<&Plan>) -> String {
    match container {
        Some("build") => format!("the build container with {}", image_of(container, plan)),
        Some("helper") => "Mayfly's helper container".into(),
        Some(name) if name.starts_with("svc-") => format!("the service with {}", image_of(container, plan)),
        _ => "the task".into(),
    }
}

fn image_of(container: Option<&str>, plan: Option<&Plan>) -> String {
    let service = |name: &str| name.strip_prefix("svc-")?.parse::<usize>().ok();
    let image = plan.and_then(|plan| match container {
        Some("build") => Some(plan.build.image.as_str()),
        Some(name) => plan.services.get(service(name)?).map(|service| service.image.as_str()),
        None => None,
    });
    match (image, container) {
        (Some(image), _) => format!("the image `{image}`"),
        (None, Some("helper")) => "the image of Mayfly's helper".into(),
        (None, _) => "an image of the job".into(),
    }
}

/// A container was killed for its memory.
pub(super) fn out_of_memory(container: Option<&str>, plan: Option<&Plan>) -> Cause {
    let memory = plan.map(|plan| plan.memory);
    let limit = |mib: Option<u32>| mib.map(|mib| format!(" of {mib} MiB")).unwrap_or_default();
    let message = match container {
        Some("helper") => format!(
            "Mayfly's helper, which fetches sources, caches and artifacts, needed more than its memory{}: raise it with \
             the variable `KUBERNETES_HELPER_MEMORY_LIMIT`, for example `1Gi`",
            limit(memory.map(|memory| memory.helper_mib))
        ),
        Some(name) if name.starts_with("svc-") => format!(
            "{} needed more than its memory{}: ask for more with a `mem-` tag or `KUBERNETES_SERVICE_MEMORY_LIMIT`",
            place(container, plan),
            limit(memory.filter(|memory| memory.service_is_limit).map(|memory| memory.service_mib))
        ),
        _ => format!(
            "the job's script needed more than its memory{}: ask for more with a `mem-` tag, for example `mem-8g`",
            limit(memory.map(|memory| memory.build_mib))
        ),
    };
    Cause { reason: FailureReason::RunnerSystemFailure, transient: false, message }
}

fn disk_full(place: &str) -> Cause {
    let message = format!(
        "the task's disk is full, so {place} could not start: ask for more with a `disk-` tag, for example `disk-50g`"
    );
    Cause { reason: FailureReason::RunnerSystemFailure, transient: false, message }
}

/// A container that was pulled and could not be started.
fn start_failure(place: &str, image: &str, found: &str, words: &str) -> Cause {
    let config = |message: String| Cause { reason: FailureReason::RunnerConfigurationError, transient: false, message };
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| has(found, phrase));
    if has(&["no space left on device"]) {
        return disk_full(place);
    }
    if has(&["exec format error"]) {
        return config(format!("{place} is made for another processor: use the tag `arm64` or `amd64` ({words})"));
    }
    if has(&["executable file not found"]) && has(&["sh"]) {
        return config(format!("{image} has no shell, and a job's script needs one: use an image that has `sh`"));
    }
    if has(&["executable file not found", "no such file or directory", "permission denied"]) {
        return config(format!("{place} could not start its command; check `entrypoint:` and `command:` ({words})"));
    }
    if has(&["unable to find user", "no matching entries in passwd file", "unable to find group", "no users found"]) {
        return config(format!(
            "{place} does not have the user that the job asks for; check `image:docker:user` ({words})"
        ));
    }
    let message = format!("{place} could not be started; retry the job ({words})");
    Cause { reason: FailureReason::RunnerSystemFailure, transient: true, message }
}

/// The task could not be set up: network, secrets, logs.
fn setup_failure(found: &str, words: &str) -> Cause {
    let cause = |transient, message: String| Cause { reason: FailureReason::RunnerSystemFailure, transient, message };
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| has(found, phrase));
    if has(&[
        "insufficientfreeaddressesinsubnet",
        "insufficient free addresses",
        "not enough free addresses",
        "no available ip addresses",
    ]) {
        let message = format!(
            "the task's subnet has no free address: retry the job later, or add subnets to the stack ({words})"
        );
        return cause(true, message);
    }
    let is_secret = has(&["secrets or registry auth", "pull secrets", "secret", "registry auth"]);
    let is_refused = has(&[
        "accessdeniedexception",
        "not authorized to perform",
        "resourcenotfoundexception",
        "can't find the specified secret",
    ]);
    if is_secret && is_refused {
        let message = format!(
            "a secret of the task cannot be read: the owner of Mayfly's stack must check the credentials in \
             `[[images.registries]]` of fleet.toml and the stack's parameter `RegistrySecretArns` ({words})"
        );
        return cause(false, message);
    }
    if has(&["logger args", "cloudwatch log stream", "log group"]) && is_refused {
        let message =
            format!("the task's log cannot be written: the owner of Mayfly's stack must check its log group ({words})");
        return cause(false, message);
    }
    if is_secret {
        let message = format!(
            "the task could not reach AWS to read its secrets: does its subnet have a route to the internet? ({words})"
        );
        return cause(true, message);
    }
    // One task in a hundred, by bad luck (aws.md §13).
    cause(true, format!("AWS could not set the task up; retry the job ({words})"))
}
