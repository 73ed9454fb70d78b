//! Reports a decided outcome to GitLab, and closes the record when GitLab has it. Every step can be repeated.

use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;
use tracing::{error, info, warn};

use crate::config::Runner;
use crate::gitlab::{Backoff, Identity, JobClient, Outcome, TraceError, UpdateError, identify};
use crate::ledger::{Claim, Decision, Record, Stored};

use super::Dispatcher;
use super::error::DispatchError;
use super::job_trace::send_trace;
use super::reconciling::is_erased;

/// Where no trace ends: a PATCH there is refused with the place where it does end (gitlab-protocol.md §6.1).
const BEYOND_EVERY_TRACE: u64 = 1 << 40;
/// So long after a job's timeout GitLab has ended it by itself.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Looks for the end of a trace that a dying helper's last bytes may still reach.
const PLACE_TRIES: u32 = 5;

impl Dispatcher {
    /// Reports the record's decision and closes the record.
    pub(super) async fn report(&self, stored: Stored<Record>, claim: &Claim) -> Result<(), DispatchError> {
        let (Some(decision), Some(identity)) = (&stored.value.decision, identify(&claim.body)) else { return Ok(()) };
        let Some(client) = self.job_client(&stored.value.gitlab, &identity) else { return Ok(()) };
        let decision = decision.clone();
        let claimed_at = stored.value.claimed_at;
        let (stored, said) = match stored.value.opened_by {
            None => {
                let text = format!("{}{}", stored.value.trace, decision.text);
                let said = report_whole(&client, &decision.outcome, text.as_bytes()).await;
                (stored, said)
            }
            Some(_) => self.report_behind_helper(stored, &client, &decision).await?,
        };
        match said {
            Ok(()) => {
                info!(job.id = identity.id, outcome = ?decision.outcome, "said the outcome of job {}", identity.id)
            }
            // Whatever GitLab answers by now, it is nothing that repeating changes.
            Err(error) if self.now() >= stored.value.deadline() + GIVE_UP_AFTER => {
                error!(job.id = identity.id, alarm = "unsaid", error = %error, "job {} cannot be ended", identity.id);
            }
            // Cancelled, erased, swept, or said before: GitLab knows an end.
            Err(DispatchError::Update(UpdateError::Over { status: status @ Some(_) })) => {
                info!(job.id = identity.id, ?status, "job {} was over already", identity.id);
            }
            // Erased, or its project deleted: there is nobody to report to.
            Err(DispatchError::Update(UpdateError::Over { status: None })) if is_erased(claimed_at, self.now()) => {
                warn!(
                    job.id = identity.id,
                    "GitLab no longer knows job {}: it or its project was deleted", identity.id
                );
            }
            Err(error) => return Err(error),
        }
        self.close(stored).await
    }

    /// Reports the record's decision, or leaves it to the next tick.
    pub(super) async fn report_or_leave(&self, stored: Stored<Record>, claim: &Claim) {
        let job = stored.value.job.clone();
        if let Err(error) = self.report(stored, claim).await {
            warn!(job.id = job.id, error = %error, "the outcome of job {} is reported at the next tick", job.id);
        }
    }

    /// Settles the record, and forgets what only a live job needs.
    pub(super) async fn close(&self, stored: Stored<Record>) -> Result<(), DispatchError> {
        let settle = |record: &mut Record| {
            record.settle();
            Ok::<_, std::convert::Infallible>(())
        };
        match self.ledger.change(stored, settle).await? {
            Ok((stored, ())) => self.forget(&stored.value).await,
            Err(never) => match never {},
        }
    }

    /// Forgets what only a live job needs. The claim goes last: while it is there, the tick comes back.
    pub(super) async fn forget(&self, record: &Record) -> Result<(), DispatchError> {
        let services = record.plan.as_ref().map_or(0, |plan| plan.services.len());
        Ok(self.ledger.forget(&record.job, services).await?)
    }

    /// The last resort for a job that could not even be stored.
    pub(super) async fn report_at_once(&self, runner: &Runner, identity: &Identity, outcome: &Outcome) {
        let Some(client) = self.job_client(runner.url.as_str(), identity) else { return };
        if let Err(error) = report_whole(&client, outcome, outcome.last_line().as_bytes()).await {
            error!(job.id = identity.id, alarm = "lost_claim", error = %error, "job {} is lost", identity.id);
        }
    }

    /// A helper has written a trace that we do not know: our text goes behind it, once.
    async fn report_behind_helper(
        &self,
        mut stored: Stored<Record>,
        client: &JobClient,
        decision: &Decision,
    ) -> Result<(Stored<Record>, Result<(), DispatchError>), DispatchError> {
        let text = Bytes::from(decision.text.clone());
        let offset = match decision.offset {
            Some(offset) => offset,
            None => match client.append_trace(BEYOND_EVERY_TRACE, text.clone(), false).await {
                Err(TraceError::Mismatch { stored: end }) => {
                    let place = |record: &mut Record| {
                        record.place_decision(end);
                        Ok::<_, std::convert::Infallible>(
                            record.decision.as_ref().and_then(|d| d.offset).unwrap_or(end),
                        )
                    };
                    let (changed, offset) = match self.ledger.change(stored, place).await? {
                        Ok(changed) => changed,
                        Err(never) => match never {},
                    };
                    stored = changed;
                    offset
                }
                Ok(answer) => answer.stored.saturating_sub(text.len() as u64),
                Err(TraceError::Update(error)) => return Ok((stored, Err(error.into()))),
            },
        };
        let said = match append_once(client, offset, &text).await {
            Ok(size) => finish(client, &decision.outcome, &text, size).await,
            Err(error) => Err(error.into()),
        };
        Ok((stored, said))
    }
}

/// Puts `text` at `offset`, or behind what has come in meanwhile; returns the size of the trace.
async fn append_once(client: &JobClient, offset: u64, text: &Bytes) -> Result<u64, UpdateError> {
    let done = offset + text.len() as u64;
    let mut at = offset;
    for _ in 0..PLACE_TRIES {
        match client.append_trace(at, text.clone(), false).await {
            Ok(answer) => return Ok(answer.stored),
            Err(TraceError::Mismatch { stored }) if stored == done => return Ok(done),
            // The dead helper's last bytes, or a log that GitLab lost: the outcome matters more than its place.
            Err(TraceError::Mismatch { stored }) => at = stored,
            Err(TraceError::Update(error)) => return Err(error),
        }
    }
    warn!("the end of a trace moves faster than it can be written to");
    Ok(at)
}

async fn report_whole(client: &JobClient, outcome: &Outcome, text: &[u8]) -> Result<(), DispatchError> {
    // Nothing ran: no command is told.
    send_trace(client, text, false).await?;
    finish(client, outcome, text, text.len() as u64).await
}

/// The final update. Behind a helper the checksum is of our own bytes and wrong by nature: GitLab only counts that, while
/// an update without one would overrule an outcome that it already holds (gitlab-protocol.md §5.3).
async fn finish(client: &JobClient, outcome: &Outcome, text: &[u8], size: u64) -> Result<(), DispatchError> {
    let mut backoff = Backoff::new(6, Duration::from_millis(500), Duration::from_secs(5));
    loop {
        let asked = match client.finish(outcome, crc32fast::hash(text), size).await {
            Ok(answer) if answer.done => return Ok(()),
            Ok(answer) => answer.interval,
            Err(error) => match error.retry() {
                Some(asked) => asked,
                None => return Err(error.into()),
            },
        };
        match backoff.pause(asked) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(DispatchError::NotWritten(size)),
        }
    }
}
