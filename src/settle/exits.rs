//! What the exit codes of a task's containers mean, where ECS names no error.

use crate::gitlab::FailureReason;
use crate::ledger::StoppedTask;
use crate::plan::Plan;

use super::cause::Cause;

/// The shell that fetches the agent gives up.
const NO_AGENT: i32 = 70;

/// The helper's own codes: `HelperExit` in `src/agent/exit.rs`.
const MISCONFIGURED: i32 = 2;
const NO_BUILD: i32 = 10;
const REFUSED: i32 = 11;
const NO_BROKER: i32 = 12;
const STOPPED_EARLY: i32 = 13;
const UNSAID: i32 = 14;

/// SIGKILL and SIGTERM.
const KILLED: i32 = 137;
const TERMINATED: i32 = 143;

/// The cause of a stop by exit codes; `None` where no container has one.
///
/// The code of a container that ended by itself counts before that of one that was stopped with it. The helper ends with
/// a code of its own because `build` never connected, so `build` comes first.
pub(super) fn exit_cause(stopped: &StoppedTask, plan: Option<&Plan>) -> Option<Cause> {
    let code = |name: &str| stopped.container(name).and_then(|container| container.exit_code);
    let (helper, build) = (code("helper"), code("build"));
    let image = plan.map(|plan| format!(" `{}`", plan.build.image)).unwrap_or_default();
    // The build container's shell waits until it becomes the agent, and ends with 0 when it is stopped.
    // Where the helper ended by itself, `build` lost its connection and ended after it.
    let is_first = helper.is_none_or(|helper| [NO_BUILD, STOPPED_EARLY, TERMINATED].contains(&helper));
    if let Some(code) = build.filter(|code| is_first && ![0, KILLED, TERMINATED].contains(code)) {
        let message = format!(
            "the build container with the image{image} ended with exit code {code} before the job was done: its \
             entrypoint or its shell `sh` does not work"
        );
        return Some(Cause { reason: FailureReason::RunnerConfigurationError, transient: false, message });
    }
    let (name, code) = helper.map(|code| ("helper", code)).or_else(|| build.map(|code| ("build", code)))?;
    let system = |transient, message: String| Cause { reason: FailureReason::RunnerSystemFailure, transient, message };
    Some(match (name, code) {
        ("helper", NO_AGENT) => system(
            true,
            "the helper container ended with exit code 70: it could not fetch Mayfly's agent from the broker; do the \
             task's subnets have a route to the internet?"
                .to_owned(),
        ),
        ("helper", MISCONFIGURED) => system(
            false,
            "the helper container ended with exit code 2: its environment is incomplete; the owner of Mayfly's stack must \
             look at its log"
                .to_owned(),
        ),
        ("helper", NO_BUILD) => Cause {
            reason: FailureReason::RunnerConfigurationError,
            transient: false,
            message: format!(
                "the build container with the image{image} did not start Mayfly's agent: its entrypoint must run the \
                 command that it is given, and the image needs a shell `sh`"
            ),
        },
        ("helper", REFUSED) => system(true, "the broker refused the task's ticket (exit code 11)".to_owned()),
        ("helper", NO_BROKER) => {
            system(true, "the helper container could not reach Mayfly's broker (exit code 12)".to_owned())
        }
        ("helper", STOPPED_EARLY) => system(true, "the task was stopped before the job began".to_owned()),
        ("helper", UNSAID) => system(
            false,
            "the job has ended, and the helper could not report its outcome to GitLab (exit code 14); see the log above"
                .to_owned(),
        ),
        _ => {
            let signal = match code {
                KILLED => " (killed)",
                TERMINATED => " (terminated)",
                _ => "",
            };
            let message =
                format!("the {name} container ended with exit code {code}{signal} before the job was done; retry it");
            system(true, message)
        }
    })
}
