//! Owns the reasons a runner may give for a failed job, and what to say to a server that lacks one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a job failed, in GitLab's words (gitlab-protocol.md §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The job's own script, or what its author asked for.
    ScriptFailure,
    /// Ours: what `retry: when: runner_system_failure` repeats.
    RunnerSystemFailure,
    /// The job ran longer than it may.
    JobExecutionTimeout,
    /// The job asks for something that this runner refuses or cannot read.
    RunnerConfigurationError,
    /// Something that neither the job nor the runner owns did not answer.
    RunnerExternalDependencyFailure,
    /// The machine was taken away.
    RunnerInterrupted,
    /// The job's image could not be pulled.
    ImagePullFailure,
    /// None of the above.
    UnknownFailure,
}

impl FailureReason {
    /// GitLab's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScriptFailure => "script_failure",
            Self::RunnerSystemFailure => "runner_system_failure",
            Self::JobExecutionTimeout => "job_execution_timeout",
            Self::RunnerConfigurationError => "runner_configuration_error",
            Self::RunnerExternalDependencyFailure => "runner_external_dependency_failure",
            Self::RunnerInterrupted => "runner_interrupted",
            Self::ImagePullFailure => "image_pull_failure",
            Self::UnknownFailure => "unknown_failure",
        }
    }

    /// The nearest reason that a server knows which listed `known` in the claim's `features.failure_reasons`.
    ///
    /// Three reasons are always known. `runner_interrupted` is no reason on old servers, where GitLab Runner says
    /// `unknown_failure`; we say `runner_system_failure`, which `retry:when` can name.
    #[must_use]
    pub fn for_server(self, known: &[String]) -> Self {
        let always = [Self::ScriptFailure, Self::RunnerSystemFailure, Self::JobExecutionTimeout];
        if always.contains(&self) || known.iter().any(|reason| reason == self.as_str()) {
            return self;
        }
        match self {
            Self::ImagePullFailure | Self::RunnerExternalDependencyFailure | Self::RunnerInterrupted => {
                Self::RunnerSystemFailure
            }
            Self::RunnerConfigurationError => Self::ScriptFailure,
            _ => Self::UnknownFailure,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::FailureReason::{self, *};

    #[test]
    fn a_reason_is_degraded_only_where_the_server_does_not_list_it() {
        let old = ["script_failure".to_owned()];
        let new = ["image_pull_failure".to_owned(), "runner_configuration_error".to_owned()];
        for (reason, known, said) in [
            (ScriptFailure, &[][..], ScriptFailure),
            (JobExecutionTimeout, &[], JobExecutionTimeout),
            (ImagePullFailure, &old, RunnerSystemFailure),
            (ImagePullFailure, &new, ImagePullFailure),
            (RunnerConfigurationError, &old, ScriptFailure),
            (RunnerConfigurationError, &new, RunnerConfigurationError),
            (RunnerExternalDependencyFailure, &new, RunnerSystemFailure),
            (RunnerInterrupted, &old, RunnerSystemFailure),
        ] {
            assert_eq!(FailureReason::for_server(reason, known), said, "{reason} for a server that knows {known:?}");
        }
    }
}
