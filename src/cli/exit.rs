//! Owns the exit codes.

use thiserror::Error;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All went well.
    Success = 0,
    /// A job or the command itself failed.
    Failure = 1,
    /// Wrong usage, or a pipeline that cannot be read; clap ends so, too.
    Usage = 2,
}

/// What whoever typed the command, or wrote the pipeline, has to change.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

impl Usage {
    /// An error that ends the process with [`ExitCode::Usage`].
    pub(super) fn error(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Usage(message.into()))
    }
}

impl ExitCode {
    /// How the process ends after `error`.
    pub(super) fn of(error: &anyhow::Error) -> ExitCode {
        if error.downcast_ref::<Usage>().is_some() { ExitCode::Usage } else { ExitCode::Failure }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn wrong_usage_is_known_behind_its_context() {
        let wrong = Err::<(), _>(Usage::error("no branch `x`")).context("reading the pipeline").unwrap_err();
        assert_eq!(ExitCode::of(&wrong), ExitCode::Usage);
        assert_eq!(ExitCode::of(&anyhow::anyhow!("the disk is full")), ExitCode::Failure);
    }
}
