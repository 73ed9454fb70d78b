//! Owns why a secret cannot be had, and what GitLab hears of it (runner-behaviour.md §1.1).

use thiserror::Error;

use crate::agent::context::StageError;
use crate::gitlab::FailureReason;

/// Why a secret cannot be had; no text holds a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum SecretError {
    /// It is not there.
    #[error("secret not found: {0}")]
    NotFound(String),
    /// The job asks wrongly, or for what it may not have.
    #[error("{0}")]
    Configuration(String),
    /// Whoever keeps it does not answer, or not well.
    #[error("{0}")]
    External(String),
    /// None of these.
    #[error("{0}")]
    Other(String),
}

impl SecretError {
    /// What ends the job.
    pub(super) fn into_stage(self) -> StageError {
        let reason = match self {
            SecretError::NotFound(_) | SecretError::Configuration(_) => FailureReason::RunnerConfigurationError,
            SecretError::External(_) => FailureReason::RunnerExternalDependencyFailure,
            SecretError::Other(_) => FailureReason::RunnerSystemFailure,
        };
        StageError::new(reason, format!("resolving secrets: {self}"))
    }
}
