//! Why a container could not be started.

use crate::gitlab::FailureReason::{RunnerConfigurationError, RunnerSystemFailure};

use super::cause::{Cause, ecs_text};
use super::failed_container::FailedContainer;
use super::phrases::Phrases;
use super::pull::{DISK_FULL, OTHER_PLATFORM, disk_full, other_platform};

/// What a runtime writes before the program that it was to start, in quotes.
const PROGRAM: &str = "exec: \"";
const NO_PROGRAM: [&str; 4] =
    ["executable file not found", "no such file or directory", "not found in $path", "is a directory"];
const NOT_EXECUTABLE: [&str; 2] = ["permission denied", "operation not permitted"];
const NO_USER: [&str; 4] =
    ["unable to find user", "unable to find group", "no matching entries in passwd file", "no users found"];

/// The cause behind a start error with this text.
pub(super) fn start_failure(phrases: &Phrases, text: &str, container: FailedContainer<'_>) -> Cause {
    if phrases.has(&OTHER_PLATFORM) {
        return other_platform(text, container);
    }
    if phrases.has(&DISK_FULL) {
        return disk_full(RunnerSystemFailure, text, container);
    }
    let ecs = ecs_text(text);
    let image = container.image();
    if phrases.has(&NO_USER) {
        let message = format!(
            "{image} does not have the user that the container is to run as: check `user` in {}{ecs}",
            container.image_setting()
        );
        return Cause::permanent(RunnerConfigurationError, message);
    }
    if let Some(program) = program(text) {
        if phrases.has(&NO_PROGRAM) {
            let message = format!("{}{ecs}", no_program(&program, &image, container));
            return Cause::permanent(RunnerConfigurationError, message);
        }
        if phrases.has(&NOT_EXECUTABLE) {
            let message =
                format!("{image} does not allow to execute `{program}`: set its file mode, or use another image{ecs}");
            return Cause::permanent(RunnerConfigurationError, message);
        }
    }
    let message = format!(
        "{} could not be started: retry the job; if it happens again, show this text to the owner of this runner{ecs}",
        container.title()
    );
    Cause::transient(RunnerSystemFailure, message)
}

fn no_program(program: &str, image: &str, container: FailedContainer<'_>) -> String {
    let is_shell = matches!(program.rsplit('/').next(), Some("sh"));
    if container.is_helper() {
        return format!("{image} has no `{program}`: check {}", container.image_setting());
    }
    if is_shell && (container.is_build() || container.name.is_none()) {
        return format!("{image} has no shell, and a job's script needs one: use an image that has `sh`");
    }
    format!(
        "{image} has no program `{program}`, which it was to start with: check `entrypoint` and `command` in {}",
        container.image_setting()
    )
}

/// The program that the runtime was to start; quotes come with and without a backslash.
fn program(text: &str) -> Option<String> {
    let text = text.replace("\\\"", "\"");
    let from = text.find(PROGRAM)? + PROGRAM.len();
    let program = text[from..].split('"').next()?;
    (!program.is_empty()).then(|| program.chars().filter(|c| !c.is_control() && *c != '`').take(80).collect())
}
