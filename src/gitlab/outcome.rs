//! Owns how a job ended, as GitLab hears it.

use serde::{Deserialize, Serialize};

use super::FailureReason;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Outcome {
    /// Everything the job asked for was done.
    Success,
    /// The job failed.
    Failed {
        /// What GitLab shows and `retry:when` looks at.
        reason: FailureReason,
        /// The script's exit code, where a script ended: `allow_failure:exit_codes` looks at it.
        exit_code: Option<i32>,
        /// The sentence at the end of the trace, without the `ERROR: Job failed: ` before it.
        message: String,
    },
}

impl Outcome {
    /// A failure without an exit code.
    pub fn failed(reason: FailureReason, message: impl Into<String>) -> Self {
        Outcome::Failed { reason, exit_code: None, message: message.into() }
    }

    /// The same, with a reason that a server knows which listed `known` in the claim's `features.failure_reasons`.
    #[must_use]
    pub fn for_server(self, known: &[String]) -> Self {
        match self {
            Outcome::Success => Outcome::Success,
            Outcome::Failed { reason, exit_code, message } => {
                Outcome::Failed { reason: reason.for_server(known), exit_code, message }
            }
        }
    }

    /// The `state` of the final update.
    pub fn state(&self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failed { .. } => "failed",
        }
    }

    /// The trace's last line with its colours, as GitLab Runner writes it (runner-behaviour.md §2.1, §2.5).
    pub fn last_line(&self) -> String {
        match self {
            Outcome::Success => "\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n".into(),
            Outcome::Failed { reason, message, .. } => {
                let system = if *reason == FailureReason::RunnerSystemFailure { " (system failure)" } else { "" };
                format!("\x1b[0K\x1b[31;1mERROR: Job failed{system}: {message}\x1b[0;m\n")
            }
        }
    }
}
