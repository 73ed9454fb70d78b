//! Acts on a stopped task: says what its helper could not, launches again, or only closes the record.

use tracing::{info, warn};

use crate::functions::{Event, Later};
use crate::gitlab::{Job, Outcome};
use crate::ledger::{JobKey, Record, StoppedTask, Stored, WrongPhase};
use crate::settle::{Settlement, settle};

use super::error::DispatchError;
use super::hints::Hint;
use super::leased::ALL_JOBS;
use super::{Dispatcher, Wanted};

impl Dispatcher {
    /// A task of the cluster has stopped.
    pub(super) async fn stopped(&self, stopped: &StoppedTask) -> Result<Hint, DispatchError> {
        let instances = self.fleet.runners.iter().map(|runner| &runner.url);
        let Some((job, attempt)) = JobKey::from_started_by(&stopped.started_by, instances) else {
            return Ok(Hint::default());
        };
        let Some(mut stored) = self.ledger.record(&job).await? else { return Ok(Hint::default()) };
        // Its RunTask may have had no answer that arrived: this event is the answer.
        if stored.value.attempt.as_ref().is_some_and(|current| current.number == attempt) {
            let note = |record: &mut Record| {
                record.started(attempt, &stopped.task)?;
                record.stopped = Some(stopped.clone());
                Ok::<_, WrongPhase>(())
            };
            match self.ledger.change(stored.clone(), note).await? {
                Ok((changed, ())) => stored = changed,
                Err(_) => stored = self.ledger.record(&job).await?.unwrap_or(stored),
            }
        }
        let settlement = settle(&stored.value, attempt, stopped, self.now());
        let runner = stored.value.runner.clone();
        let mut hint = self.carry_out(stored, attempt, settlement).await?;
        // A task of ours has stopped: there is room again, in Fargate and below the runner's limit.
        let held = self.ledger.change_lease(|lease| {
            let held = lease.is_on_hold(self.now());
            lease.end_hold();
            held
        });
        let limited = self.fleet.runner(&runner).is_some_and(|runner| runner.limit.is_some());
        let held = held.await?;
        if held || limited {
            hint.wanted.looks.insert(runner, 0);
        }
        if held {
            // Who waits already comes before who is claimed next.
            hint.wanted.looks.insert(ALL_JOBS.to_owned(), 0);
        }
        Ok(hint)
    }

    /// Does what was settled for attempt `attempt` of the job.
    pub(super) async fn carry_out(
        &self,
        stored: Stored<Record>,
        attempt: u32,
        settlement: Settlement,
    ) -> Result<Hint, DispatchError> {
        let job = stored.value.job.clone();
        match settlement {
            Settlement::NotCurrent => Ok(Hint::default()),
            Settlement::AlreadySaid => {
                self.close(stored).await?;
                Ok(Hint::default())
            }
            Settlement::Relaunch { why } => {
                let claim = self.ledger.claim(&job).await?;
                let parsed = claim.as_ref().and_then(|claim| Job::read(&claim.body));
                let lines = parsed.as_ref().map(|job| self.lines(&stored.value, job));
                let why = lines.as_ref().map_or(why.clone(), |lines| lines.masked(&why));
                warn!(job.id = job.id, attempt, why, "job {} is launched again: {why}", job.id);
                let words = format!("\x1b[0KThe task ended before the job began; starting another ({why})\n");
                let words = lines.map(|lines| lines.framed(self.now(), &words)).unwrap_or_default();
                match self.ledger.change(stored, |r| r.over(attempt, why.clone(), false, &words)).await? {
                    Ok((stored, ())) => {
                        if let Some(job) = &parsed {
                            self.show_trace(&stored.value, job).await;
                        }
                        Ok(Hint { wanted: Wanted { drive: vec![job], ..Wanted::default() }, ..Hint::default() })
                    }
                    // Opened in this moment: its stop comes again as an opened one's.
                    Err(_) => Ok(Hint { later: vec![Later::new(Event::Drive { job }, 5)], ..Hint::default() }),
                }
            }
            Settlement::Say(outcome) => {
                let Some(claim) = self.ledger.claim(&job).await? else {
                    self.close(stored).await?;
                    return Ok(Hint::default());
                };
                let Outcome::Failed { reason, message, .. } = outcome else { return Ok(Hint::default()) };
                if let Some(parsed) = Job::read(&claim.body) {
                    let message = self.lines(&stored.value, &parsed).masked(&message);
                    info!(job.id = job.id, reason = %reason, "settling job {}: {message}", job.id);
                    self.decide_and_say(stored, &parsed, &claim, reason, message).await?;
                }
                Ok(Hint::default())
            }
        }
    }
}
