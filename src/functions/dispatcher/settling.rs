//! Acts on a stopped task: reports what its helper could not, launches again, or only closes the record.

use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};

use crate::gitlab::{Job, Outcome};
use crate::ledger::{JobKey, LedgerError, Record, StoppedTask, Stored, WrongPhase};
use crate::settle::{Settlement, settle};

use super::Dispatcher;
use super::error::DispatchError;
use super::wants::Wants;

impl Dispatcher {
    /// A task of the cluster has stopped.
    pub(super) async fn task_stopped(
        &self,
        stopped: &StoppedTask,
        wants: &UnboundedSender<Wants>,
    ) -> Result<(), DispatchError> {
        let instances = self.fleet.runners.iter().map(|runner| &runner.url);
        let Some((job, attempt)) = JobKey::from_started_by(&stopped.started_by, instances) else { return Ok(()) };
        // Jobs that wait for capacity do not wait for GitLab's answers about this one.
        let (freed, settled) =
            tokio::join!(self.capacity_freed(wants), self.settle_task(&job, attempt, stopped, wants));
        if let Some(runner) = settled?
            && self.fleet.runner(&runner).is_some_and(|runner| runner.limit.is_some())
            && self.is_wanted(&runner).await?
        {
            drop(wants.send(Wants::poll([runner], 0, None)));
        }
        Ok(freed?)
    }

    /// There is room in Fargate again: jobs that wait are tried.
    async fn capacity_freed(&self, wants: &UnboundedSender<Wants>) -> Result<(), LedgerError> {
        let now = self.now();
        let lease = self.ledger.lease().await?;
        // What a holder has in memory is not in the object yet.
        if lease.is_some_and(|lease| lease.value.is_held(now) || lease.value.waits_for_room()) {
            drop(wants.send(Wants { room: true, ..Wants::default() }));
        }
        Ok(())
    }

    /// Whether `runner`, of which a job has ended, may have been refused claims because of its limit.
    async fn is_wanted(&self, runner: &str) -> Result<bool, LedgerError> {
        let now = self.now();
        let lease = self.ledger.lease().await?;
        Ok(lease.is_some_and(|lease| lease.value.is_held(now) || lease.value.full.contains(runner)))
    }

    /// Settles the job of a stopped task; the runner of the job.
    async fn settle_task(
        &self,
        job: &JobKey,
        attempt: u32,
        stopped: &StoppedTask,
        wants: &UnboundedSender<Wants>,
    ) -> Result<Option<String>, DispatchError> {
        let Some(mut stored) = self.ledger.record(job).await? else { return Ok(None) };
        let runner = stored.value.runner.clone();
        let is_current = stored.value.attempt.as_ref().is_some_and(|current| current.number == attempt);
        let settlement = settle(&stored.value, attempt, stopped, self.now());
        // A RunTask without an answer that arrived: this event is the answer. Where GitLab has the outcome, the same write
        // settles the record.
        if is_current {
            let note = |record: &mut Record| {
                record.started(attempt, &stopped.task)?;
                record.stopped = Some(stopped.clone());
                if settlement == Settlement::AlreadySaid {
                    record.settle();
                }
                Ok::<_, WrongPhase>(())
            };
            match self.ledger.change(stored.clone(), note).await? {
                Ok((changed, ())) => stored = changed,
                Err(_) => stored = self.ledger.record(job).await?.unwrap_or(stored),
            }
        }
        let settlement = settle(&stored.value, attempt, stopped, self.now());
        self.carry_out(stored, attempt, settlement, wants).await?;
        Ok(Some(runner))
    }

    /// Does what was settled for attempt `attempt` of the job.
    pub(super) async fn carry_out(
        &self,
        stored: Stored<Record>,
        attempt: u32,
        settlement: Settlement,
        wants: &UnboundedSender<Wants>,
    ) -> Result<(), DispatchError> {
        let job = stored.value.job.clone();
        match settlement {
            Settlement::NotCurrent => Ok(()),
            Settlement::AlreadySaid => self.close(stored).await,
            Settlement::Relaunch { why } => self.relaunch(stored, attempt, why, wants).await,
            Settlement::Say(Outcome::Failed { reason, message, .. }) => {
                let Some(claim) = self.ledger.claim(&job).await? else { return self.close(stored).await };
                let Some(parsed) = Job::read(&claim.body) else {
                    error!(job.id = job.id, "the claim of job {} cannot be read, although it was launched", job.id);
                    return Ok(());
                };
                let message = self.lines(&stored.value, &parsed).masked(&message);
                info!(job.id = job.id, reason = %reason, "settling job {}: {message}", job.id);
                self.fail(stored, &parsed, &claim, reason, message).await
            }
            Settlement::Say(outcome) => {
                error!(job.id = job.id, ?outcome, "only failures are settled");
                Ok(())
            }
        }
    }

    /// The next attempt at a job whose task stopped before its helper had opened the ticket.
    async fn relaunch(
        &self,
        stored: Stored<Record>,
        attempt: u32,
        why: String,
        wants: &UnboundedSender<Wants>,
    ) -> Result<(), DispatchError> {
        let job = stored.value.job.clone();
        let claim = self.ledger.claim(&job).await?;
        let parsed = claim.as_ref().and_then(|claim| Job::read(&claim.body));
        let lines = parsed.as_ref().map(|job| self.lines(&stored.value, job));
        let why = lines.as_ref().map_or(why.clone(), |lines| lines.masked(&why));
        warn!(job.id = job.id, attempt, why, "job {} is launched again: {why}", job.id);
        let words = format!("\x1b[0KThe task ended before the job began; starting another ({why})\n");
        let words = lines.map(|lines| lines.framed(self.now(), &words)).unwrap_or_default();
        match self.ledger.change(stored, |r| r.over(attempt, why.clone(), false, &words)).await? {
            Ok((stored, ())) => {
                drop(wants.send(Wants::launch(job)));
                if let Some(job) = &parsed {
                    self.show_trace(&stored.value, job).await;
                }
            }
            // The ticket was opened in this moment: the next tick settles the job as an opened one.
            Err(error) => {
                warn!(job.id = job.id, error = %error, "job {} was opened by a task that has stopped", job.id)
            }
        }
        Ok(())
    }
}
