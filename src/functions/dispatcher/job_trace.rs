//! Shows the dispatcher's part of a trace in GitLab: bytes that are in the record, and no others.

use bytes::Bytes;
use tracing::warn;

use crate::gitlab::{Identity, Job, JobClient, TraceError, UpdateError};
use crate::ledger::Record;

use super::Dispatcher;

impl Dispatcher {
    /// Shows what `record` has. Best effort: the helper, or whoever says the outcome, sends what is missing.
    ///
    /// GitLab learns from the first bytes alone whether a trace tells each command, and then shows it to fewer people
    /// (gitlab-protocol.md §6.1).
    pub(super) async fn show_trace(&self, record: &Record, job: &Job) {
        let identity = Identity { id: job.id, token: job.token.clone() };
        let Some(client) = self.job_client(&record.gitlab, &identity) else { return };
        if let Err(error) = send_trace(&client, record.trace.as_bytes(), self.lines(record, job).debug).await {
            warn!(job.id = job.id, error = %error, "the trace of job {} cannot be shown yet", job.id);
        }
    }
}

/// Makes GitLab's trace `text`, from wherever it stands.
pub(super) async fn send_trace(client: &JobClient, text: &[u8], debug: bool) -> Result<(), UpdateError> {
    let mut offset = 0;
    // One answer tells where GitLab is; a second mismatch means that the helper is writing, and knows better.
    for _ in 0..2 {
        let Some(rest) = text.get(offset..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        match client.append_trace(offset as u64, Bytes::copy_from_slice(rest), debug).await {
            Ok(_) => return Ok(()),
            Err(TraceError::Mismatch { stored }) => offset = usize::try_from(stored).unwrap_or(usize::MAX),
            Err(TraceError::Update(error)) => return Err(error),
        }
    }
    Ok(())
}
