//! Finds why a task stopped, from ECS' stop code, reasons and exit codes (aws.md §2.7).

use crate::gitlab::FailureReason::{self, RunnerConfigurationError, RunnerInterrupted, RunnerSystemFailure};
use crate::ledger::{StoppedContainer, StoppedTask};
use crate::plan::Plan;
use crate::plan::{BUILD, HELPER};

use super::exit_codes::{killed, own_exit};
use super::failed_container::FailedContainer;
use super::phrases::{Phrases, shown};
use super::pull::{DISK_FULL, disk_full, pull_failure};
use super::resources::resource_failure;
use super::start::start_failure;

/// Why a task stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The failure reason for GitLab, if the job fails with this cause.
    pub reason: FailureReason,
    /// Another task may not have this cause.
    pub transient: bool,
    /// The sentence for the job's log.
    pub message: String,
}

/// The kind of an error, by the name that ECS begins its text with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pull,
    Start,
    OutOfMemory,
    Resources,
    /// Of AWS' own machinery, with what it could not do.
    Aws(&'static str),
    /// Comes after the cause: it happens to a container that is being stopped or looked at.
    Consequence,
}

const KINDS: [(&str, Kind); 16] = [
    ("cannotpullcontainererror", Kind::Pull),
    ("cannotpullcontainer", Kind::Pull),
    ("cannotpullecrcontainererror", Kind::Pull),
    ("cannotpullimagemanifesterror", Kind::Pull),
    ("cannotstartcontainererror", Kind::Start),
    ("cannotcreatecontainererror", Kind::Start),
    ("outofmemoryerror", Kind::OutOfMemory),
    ("resourceinitializationerror", Kind::Resources),
    ("resourcenotfoundexception", Kind::Resources),
    ("cannotcreatevolumeerror", Kind::Aws("create a volume of the task")),
    ("containerruntimeerror", Kind::Aws("run a container of the task")),
    ("containerruntimetimeouterror", Kind::Aws("start or stop a container of the task in time")),
    ("dockertimeouterror", Kind::Aws("start or stop a container of the task in time")),
    ("internalerror", Kind::Aws("run the task")),
    ("cannotstopcontainererror", Kind::Consequence),
    ("cannotinspectcontainererror", Kind::Consequence),
];

/// Finds the cause in how the task and its containers ended; `plan` is the task's.
///
/// The root comes first: a container that never started hides no exit code of another that was stopped because of it,
/// and a service counts only if nothing else explains the end, for the task goes on without it (aws.md §13).
pub fn cause(stopped: &StoppedTask, plan: Option<&Plan>) -> Cause {
    let images = images(plan);
    by_stop_code(stopped)
        .or_else(|| out_of_memory(stopped, plan, &images))
        .or_else(|| by_reasons(stopped, plan, &images))
        .or_else(|| own_exit(stopped, plan))
        .or_else(|| service_reason(stopped, plan, &images))
        .or_else(|| killed(stopped, plan).filter(|_| all_text(stopped).is_none()))
        .unwrap_or_else(|| unknown(stopped))
}

impl Cause {
    pub(super) fn new(reason: FailureReason, transient: bool, message: String) -> Cause {
        Cause { reason, transient, message }
    }

    /// Another task may not have it.
    pub(super) fn transient(reason: FailureReason, message: String) -> Cause {
        Cause::new(reason, true, message)
    }

    /// Every other task would have it, too.
    pub(super) fn permanent(reason: FailureReason, message: String) -> Cause {
        Cause::new(reason, false, message)
    }
}

/// The end of a sentence: what ECS wrote.
pub(super) fn ecs_text(text: &str) -> String {
    format!(" (ECS: {})", shown(text))
}

fn images(plan: Option<&Plan>) -> Vec<&str> {
    let Some(plan) = plan else { return Vec::new() };
    let services = plan.services.iter().map(|service| service.image.as_str());
    services.chain([plan.build.image.as_str()]).collect()
}

fn by_stop_code(stopped: &StoppedTask) -> Option<Cause> {
    let code = stopped.stop_code.as_deref().unwrap_or_default();
    let reason = stopped.stopped_reason.as_str();
    let ecs = if reason.is_empty() { String::new() } else { ecs_text(reason) };
    let phrases = Phrases::read(reason, &[]);
    // A person may write anything as the reason.
    if code == "UserInitiated" {
        let message = format!(
            "the task was stopped by a call of StopTask, for example in the ECS console: retry the job, or ask who \
             stopped it{ecs}"
        );
        return Some(Cause::permanent(RunnerSystemFailure, message));
    }
    if code == "SpotInterruption" || phrases.has(&["spotinterruptionerror", "your spot task was interrupted"]) {
        let message = "AWS reclaimed the spot capacity that the task ran on: add `retry: 2` to the job so that GitLab runs \
                       it again, or the tag `on-demand` for capacity that is not reclaimed";
        return Some(Cause::transient(RunnerInterrupted, message.into()));
    }
    let interrupted = ["InfrastructureHealth", "TerminationNotice", "ServiceSchedulerInitiated"].contains(&code);
    if interrupted || phrases.has(&["performing maintenance"]) {
        let message =
            format!("AWS took the task's machine out of service: retry the job, or add `retry: 2` to it{ecs}");
        return Some(Cause::transient(RunnerInterrupted, message));
    }
    None
}

fn out_of_memory(stopped: &StoppedTask, plan: Option<&Plan>, images: &[&str]) -> Option<Cause> {
    let ran_out = |text: &str| kind(&Phrases::read(text, images)) == Some(Kind::OutOfMemory);
    let of_container = |container: &&StoppedContainer| container.reason.as_deref().is_some_and(ran_out);
    let name = match ordered(stopped).find(of_container) {
        Some(container) => Some(container.name.as_str()),
        None if ran_out(&stopped.stopped_reason) => None,
        None => return None,
    };
    let container = FailedContainer { name, plan };
    let (limit, more) = container.memory();
    let message = format!("{} used all of {limit} and was killed: {more}", container.title());
    Some(Cause::permanent(RunnerSystemFailure, message))
}

/// Build, helper, services.
fn ordered(stopped: &StoppedTask) -> impl Iterator<Item = &StoppedContainer> {
    let others = stopped.containers.iter().filter(|container| ![BUILD, HELPER].contains(&container.name.as_str()));
    [BUILD, HELPER].into_iter().filter_map(|name| stopped.container(name)).chain(others)
}

/// The cause in the reasons of the containers that the task cannot be without, and in its own; one that lasts before
/// one that may pass.
fn by_reasons(stopped: &StoppedTask, plan: Option<&Plan>, images: &[&str]) -> Option<Cause> {
    let essential = ordered(stopped).filter(|container| [BUILD, HELPER].contains(&container.name.as_str()));
    let mut causes: Vec<Cause> =
        essential.filter_map(|c| by_reason(c.reason.as_deref()?, Some(&c.name), plan, images)).collect();
    let of_task = by_reason(&stopped.stopped_reason, blamed(stopped, plan), plan, images);
    causes.extend(of_task);
    let lasting = causes.iter().position(|cause| !cause.transient).unwrap_or(0);
    (!causes.is_empty()).then(|| causes.swap_remove(lasting))
}

/// The cause that a service which never started gives.
fn service_reason(stopped: &StoppedTask, plan: Option<&Plan>, images: &[&str]) -> Option<Cause> {
    let services = ordered(stopped).filter(|container| ![BUILD, HELPER].contains(&container.name.as_str()));
    let mut causes = services.filter_map(|c| by_reason(c.reason.as_deref()?, Some(&c.name), plan, images));
    causes.next()
}

/// The container that the task's own reason is about: the one with the same reason, or with an image that it names.
fn blamed<'a>(stopped: &'a StoppedTask, plan: Option<&Plan>) -> Option<&'a str> {
    let text = &stopped.stopped_reason;
    let named = |reason: &String| !reason.is_empty() && text.contains(reason.as_str());
    let same = ordered(stopped).find(|container| container.reason.as_ref().is_some_and(named));
    let image_length = |container: &&StoppedContainer| {
        let image = FailedContainer { name: Some(&container.name), plan }.job_image()?;
        text.contains(image).then_some(image.len())
    };
    let quoted = || ordered(stopped).filter(|c| image_length(c).is_some()).max_by_key(image_length);
    same.or_else(quoted).map(|container| container.name.as_str())
}

fn by_reason(text: &str, name: Option<&str>, plan: Option<&Plan>, images: &[&str]) -> Option<Cause> {
    let phrases = Phrases::read(text, images);
    let container = FailedContainer { name, plan };
    match kind(&phrases) {
        Some(Kind::Pull) => Some(pull_failure(&phrases, text, container)),
        Some(Kind::Start) => Some(start_failure(&phrases, text, container)),
        Some(Kind::Aws(_) | Kind::Resources) if phrases.has(&DISK_FULL) => {
            Some(disk_full(RunnerSystemFailure, text, container))
        }
        Some(Kind::Aws(what)) => {
            let message = format!(
                "Fargate could not {what}, at {}: retry the job; if it happens again, the owner of this runner can ask AWS \
                 Support{}",
                container.title(),
                ecs_text(text)
            );
            Some(Cause::transient(RunnerSystemFailure, message))
        }
        Some(Kind::Resources) => Some(resource_failure(&phrases, text).unwrap_or_else(|| not_set_up(&phrases, text))),
        Some(Kind::OutOfMemory | Kind::Consequence) => None,
        None => resource_failure(&phrases, text),
    }
}

fn not_set_up(phrases: &Phrases, text: &str) -> Cause {
    let ecs = ecs_text(text);
    if phrases.has(&["resourcenotfoundexception"]) {
        let message = format!("AWS does not find what the task needs: the owner of this runner has to create it{ecs}");
        return Cause::permanent(RunnerConfigurationError, message);
    }
    let message = format!(
        "AWS could not prepare the task: retry the job; if it happens again, show this text to the owner of this \
         runner{ecs}"
    );
    Cause::transient(RunnerSystemFailure, message)
}

/// The kind of error that the text names first.
fn kind(phrases: &Phrases) -> Option<Kind> {
    let found = KINDS.iter().filter_map(|(name, kind)| Some((phrases.position(name)?, *kind)));
    found.min_by_key(|(at, _)| *at).map(|(_, kind)| kind)
}

/// A reason that this version does not know: another task may fare better, and the text is shown.
fn unknown(stopped: &StoppedTask) -> Cause {
    let text = all_text(stopped).unwrap_or_else(|| "no reason given".into());
    let message = format!(
        "the task ended before the job was done: retry the job; if it happens again, show this text to the owner of this \
         runner{}",
        ecs_text(&text)
    );
    Cause::transient(RunnerSystemFailure, message)
}

/// All that ECS wrote, for people; `None` if it wrote only that a container ended.
fn all_text(stopped: &StoppedTask) -> Option<String> {
    let says_nothing = ["", "Essential container in task exited", "Task failed to start"];
    let task = Some(stopped.stopped_reason.clone()).filter(|text| !says_nothing.contains(&text.as_str()));
    let containers = ordered(stopped).filter_map(|container| {
        let reason = container.reason.as_deref().filter(|reason| !reason.is_empty())?;
        (!stopped.stopped_reason.contains(reason)).then(|| format!("{}: {reason}", container.name))
    });
    let texts: Vec<String> = task.into_iter().chain(containers).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
