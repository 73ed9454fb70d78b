//! What the exit codes of the helper and build containers mean when ECS gives no other reason.

use crate::gitlab::FailureReason::{RunnerConfigurationError, RunnerSystemFailure};
use crate::ledger::StoppedTask;
use crate::ledger::wire::HelperExit;
use crate::plan::Plan;
use crate::plan::{BUILD, HELPER};

use super::cause::Cause;
use super::failed_container::FailedContainer;

/// The helper's script could not fetch the agent (`FETCH_AGENT` in launch/definition.rs).
const NO_AGENT: i32 = 70;
/// A shell could not execute a program, or did not find it.
const CANNOT_EXECUTE: [i32; 2] = [126, 127];
const KILLED: i32 = 137;
const TERMINATED: i32 = 143;
const NO_BUILD: i32 = HelperExit::NoBuild as i32;
const STOPPED_EARLY: i32 = HelperExit::StoppedEarly as i32;

/// The cause behind a container that ended by itself; `None` if both only ended because the task was stopped.
pub(super) fn own_exit(stopped: &StoppedTask, plan: Option<&Plan>) -> Option<Cause> {
    let code = |name| stopped.container(name).and_then(|container| container.exit_code);
    let helper = code(HELPER).filter(|code| ![0, STOPPED_EARLY, KILLED, TERMINATED].contains(code));
    // Without its helper `build` ends with an error: that only follows.
    let lost_helper = code(HELPER) == Some(KILLED);
    let build = code(BUILD).filter(|code| !lost_helper && ![0, KILLED, TERMINATED].contains(code));
    match (helper, build) {
        // That `build` never connected only follows from its end.
        (None | Some(NO_BUILD), Some(code)) => Some(build_exit(code, plan)),
        (Some(code), _) => Some(helper_exit(code, plan)),
        (None, None) => {
            // `build` also ends with 0 on SIGTERM, but then the helper did not have to stop before it.
            let ended_first = stopped.stop_code.as_deref() == Some("EssentialContainerExited")
                && code(BUILD) == Some(0)
                && code(HELPER) == Some(STOPPED_EARLY);
            ended_first.then(|| build_exit(0, plan))
        }
    }
}

/// The cause behind containers that only a signal ended.
pub(super) fn killed(stopped: &StoppedTask, plan: Option<&Plan>) -> Option<Cause> {
    let with = |code| [HELPER, BUILD].into_iter().find(|name| has_exited(stopped, name, code));
    let (name, code, how) = match (with(KILLED), with(TERMINATED)) {
        (Some(name), _) => (name, KILLED, "killed"),
        (None, Some(name)) => (name, TERMINATED, "terminated"),
        (None, None) => (with(STOPPED_EARLY)?, STOPPED_EARLY, "stopped"),
    };
    let title = FailedContainer { name: Some(name), plan }.title();
    let message = format!("{title} ended with exit code {code} ({how}) before the job was done: retry the job");
    Some(Cause::transient(RunnerSystemFailure, message))
}

fn has_exited(stopped: &StoppedTask, name: &str, code: i32) -> bool {
    stopped.container(name).is_some_and(|container| container.exit_code == Some(code))
}

fn helper_exit(code: i32, plan: Option<&Plan>) -> Cause {
    const LOOK: &str = "the owner of this runner finds the reason in the log of the `helper` container";
    let exits = |exit: HelperExit| code == i32::from(exit.code());
    let build = FailedContainer { name: Some(BUILD), plan };
    match () {
        () if code == NO_AGENT => {
            let message = "the helper could not fetch Mayfly's agent from the broker (exit code 70): retry the job; if it \
                           happens again, the owner of this runner has to check the route from the task's subnets to \
                           the broker's URL";
            Cause::transient(RunnerSystemFailure, message.into())
        }
        () if exits(HelperExit::Misconfigured) => {
            let message = format!("the helper cannot work with its settings (exit code {code}): {LOOK}");
            Cause::permanent(RunnerSystemFailure, message)
        }
        () if CANNOT_EXECUTE.contains(&code) => {
            let message = format!(
                "the helper could not execute a program of its image (exit code {code}): the owner of this runner has to \
                 check `images.helper` in fleet.toml"
            );
            Cause::permanent(RunnerConfigurationError, message)
        }
        () if exits(HelperExit::NoBuild) => never_connected(build),
        () if exits(HelperExit::Refused) => {
            let message = "the broker refused the task's ticket: it was used before, or belongs to an earlier task of the \
                           job: retry the job";
            Cause::transient(RunnerSystemFailure, message.into())
        }
        () if exits(HelperExit::NoBroker) => {
            let message = "the helper could not reach Mayfly's broker: retry the job; if it happens again, the owner of \
                           this runner has to check the broker function's log and alarms";
            Cause::transient(RunnerSystemFailure, message.into())
        }
        () if exits(HelperExit::Unsaid) => {
            let message =
                format!("the helper could not report the outcome of the job to GitLab: retry the job; {LOOK}");
            Cause::transient(RunnerSystemFailure, message)
        }
        () => {
            let message = format!(
                "the `helper` container ended with exit code {code} before the job was done: retry the job; if it happens \
                 again, {LOOK}"
            );
            Cause::transient(RunnerSystemFailure, message)
        }
    }
}

fn never_connected(build: FailedContainer<'_>) -> Cause {
    let title = build.title();
    if build.has_entrypoint() {
        let message = format!(
            "{title} did not start the job's shell within 10 minutes: its entry point has to end with `exec \"$@\"`, or \
             switch `FF_KUBERNETES_HONOR_ENTRYPOINT` off"
        );
        return Cause::permanent(RunnerConfigurationError, message);
    }
    let message = format!(
        "{title} did not start within 10 minutes: use a smaller image, or a registry that is nearer to the runner"
    );
    Cause::permanent(RunnerSystemFailure, message)
}

fn build_exit(code: i32, plan: Option<&Plan>) -> Cause {
    let build = FailedContainer { name: Some(BUILD), plan };
    let title = build.title();
    if build.has_entrypoint() {
        let message = format!(
            "{title} ended with exit code {code} before the job was done: its entry point has to end with `exec \"$@\"`, \
             or switch `FF_KUBERNETES_HONOR_ENTRYPOINT` off"
        );
        return Cause::permanent(RunnerConfigurationError, message);
    }
    let (is, other) = build.processors();
    let message = format!(
        "{title} ended with exit code {code} before the job was done: check that the image is built for `{is}`, the \
         processor of this task (the tag `{other}` asks for the other one), and that its `sh` works"
    );
    // Another task of the same image ends in the same way: the job fails after one, not after three.
    Cause::permanent(RunnerConfigurationError, message)
}
