//! Owns why an event could not be handled now; it comes again.

use thiserror::Error;

use crate::gitlab::{HttpError, UpdateError};
use crate::launch::EcsError;
use crate::ledger::LedgerError;

/// Why an event could not be handled now.
#[derive(Debug, Error)]
pub(super) enum DispatchError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// ECS.
    #[error(transparent)]
    Ecs(#[from] EcsError),
    /// GitLab, about a job.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// TLS.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// GitLab took the outcome and has not written it yet.
    #[error("GitLab has not written the outcome of job {0} yet")]
    NotWritten(u64),
}
