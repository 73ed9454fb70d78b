//! Goes through all live jobs once a minute: whatever died, here its job goes on.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tracing::{error, warn};

use crate::functions::{Event, Later};
use crate::gitlab::{FailureReason, Job, JobStatus, UpdateError, identify};
use crate::launch::Described;
use crate::ledger::{Claim, JobKey, LaunchState, Phase, Record, Stored};
use crate::settle::{settle, settle_missing};

use super::error::DispatchError;
use super::{AT_ONCE, Dispatcher};

/// A task that ECS does not know counts as missing only then: right after `RunTask` it may not know it yet.
const MISSING_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// So long after its timeout a job that was opened is stopped; its helper should have ended it.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// A live job as the ledger has it.
struct Live {
    job: JobKey,
    stored: Option<Stored<Record>>,
}

impl Dispatcher {
    /// Brings single jobs on.
    pub(super) async fn drive(&self, jobs: &[JobKey]) -> Vec<Later> {
        let mut later = Vec::new();
        for job in jobs {
            match self.advance(job, None).await {
                Ok(next) => later.extend(next),
                Err(error) => {
                    warn!(job.id = job.id, error = %error, "job {} waits in the ledger", job.id);
                    later.push(Later::new(Event::Drive { job: job.clone() }, 10));
                }
            }
        }
        later
    }

    /// Goes through all live jobs; begins with none after `until`.
    pub(super) async fn drive_all(&self, until: Timestamp) -> Result<(), DispatchError> {
        let jobs = self.ledger.live_jobs().await?;
        let read = |job: JobKey| async move { Ok(Live { stored: self.ledger.record(&job).await?, job }) };
        let live: Vec<Result<Live, DispatchError>> =
            stream::iter(jobs).map(read).buffer_unordered(AT_ONCE).collect().await;
        // One record that cannot be read must not keep the others from going on.
        let readable = |live: Result<Live, DispatchError>| {
            live.inspect_err(|error| error!(alarm = "ledger", error = %error, "a job is left out of this tick")).ok()
        };
        let mut live: Vec<Live> = live.into_iter().filter_map(readable).collect();
        live.sort_by_key(|live| live.stored.as_ref().map(|stored| stored.value.claimed_at));
        self.recount(&live).await?;

        let (with_task, waiting): (Vec<_>, Vec<_>) = live.into_iter().partition(has_task);
        let tasks: Vec<String> =
            with_task.iter().filter_map(|l| l.stored.as_ref()?.value.task().map(str::to_owned)).collect();
        let described = match self.ecs.describe(&tasks).await {
            Ok(described) => described,
            Err(error) => {
                error!(error = %error, "running tasks are seen to at the next tick");
                Vec::new()
            }
        };
        let watched = with_task.into_iter().zip(described).map(|(live, described)| async move {
            let job = live.job.clone();
            (job, self.watch(live, described).await)
        });
        let mut watched = stream::iter(watched).buffer_unordered(AT_ONCE);
        while let Some((job, result)) = watched.next().await {
            // Whatever is not done now is the next tick's: no chain of messages beside it.
            if let Err(error) = result {
                warn!(job.id = job.id, error = %error, "job {} is seen to at the next tick", job.id);
            }
        }
        // One after the other: the first that Fargate has no room for holds the rest back.
        for live in waiting {
            if self.now() >= until {
                warn!("the other waiting jobs are seen to at the next tick");
                break;
            }
            if let Err(error) = self.wait(&live).await {
                warn!(job.id = live.job.id, error = %error, "job {} waits in the ledger", live.job.id);
            }
        }
        Ok(())
    }

    /// The lease's counts drift when somebody dies; here they are made true.
    async fn recount(&self, live: &[Live]) -> Result<(), DispatchError> {
        let mut running = BTreeMap::new();
        for record in live.iter().filter_map(|live| live.stored.as_ref()) {
            if record.value.phase != Phase::Settled {
                *running.entry(record.value.runner.clone()).or_default() += 1;
            }
        }
        Ok(self.ledger.change_lease(|lease| lease.recount(running.clone())).await?)
    }

    /// A job without a task: claimed, planned, between two attempts, decided, or settled and not forgotten.
    async fn wait(&self, live: &Live) -> Result<Option<Later>, DispatchError> {
        let Some(stored) = &live.stored else { return self.advance(&live.job, None).await };
        let record = &stored.value;
        if record.phase == Phase::Settled || record.decision.is_some() {
            return self.advance(&live.job, None).await;
        }
        let Some(claim) = self.ledger.claim(&live.job).await? else { return Ok(None) };
        if self.is_cancelled(stored, &claim).await? {
            return Ok(None);
        }
        // A launch without a definitive answer is asked about again, hold or not: there may be a task.
        let unknown = record.attempt.as_ref().is_some_and(|attempt| attempt.state == LaunchState::Unknown);
        let now = self.now();
        if !unknown && now < record.deadline() && self.ledger.lease().await?.is_on_hold(now) {
            return Ok(None);
        }
        self.advance(&live.job, Some(claim)).await
    }

    /// A job with a task.
    async fn watch(&self, live: Live, described: Described) -> Result<Option<Later>, DispatchError> {
        let Some(stored) = live.stored else { return Ok(None) };
        let record = &stored.value;
        let (Some(attempt), Some(task)) = (record.attempt.clone(), record.task().map(str::to_owned)) else {
            return Ok(None);
        };
        let now = self.now();
        let settlement = match described {
            Described::Stopped(stopped) => settle(record, attempt.number, &stopped, now),
            Described::Missing if now >= attempt.at + MISSING_AFTER => settle_missing(record, now),
            Described::Live if record.phase == Phase::Opened && now >= record.deadline() + OVERDUE_AFTER => {
                error!(job.id = live.job.id, task.arn = %task, "job {} is long past its timeout; stopping it", live.job.id);
                self.ecs.stop_task(&task, "the job is long past its timeout").await?;
                return Ok(None);
            }
            Described::Live if record.phase == Phase::Launching && now >= record.deadline() => {
                if let Some(claim) = self.ledger.claim(&live.job).await?
                    && let Some(job) = Job::read(&claim.body)
                {
                    let message = "the task did not begin the job within the job's timeout".to_owned();
                    let reason = FailureReason::RunnerSystemFailure;
                    self.decide_and_say(stored, &job, &claim, reason, message).await?;
                }
                self.ecs.stop_task(&task, "the job's timeout is over").await?;
                return Ok(None);
            }
            Described::Live | Described::Missing if record.phase == Phase::Launching => {
                if let Some(claim) = self.ledger.claim(&live.job).await? {
                    self.is_cancelled(&stored, &claim).await?;
                }
                return Ok(None);
            }
            Described::Live | Described::Missing => return Ok(None),
        };
        let hint = self.carry_out(stored, attempt.number, settlement).await?;
        let mut later = hint.later;
        later.extend(self.drive(&hint.wanted.drive).await);
        Ok(later.into_iter().next())
    }

    /// Says `running` for a job that no helper has yet, and so hears whether somebody cancelled it; then ends it.
    async fn is_cancelled(&self, stored: &Stored<Record>, claim: &Claim) -> Result<bool, DispatchError> {
        let Some(identity) = identify(&claim.body) else { return Ok(false) };
        let Some(client) = self.job_client(&stored.value.gitlab, &identity) else { return Ok(false) };
        let over = match client.keep_alive().await.map(|answer| answer.status) {
            Ok(JobStatus::Running) => return Ok(false),
            Ok(JobStatus::Canceling) => false,
            Ok(JobStatus::Over(_)) | Err(UpdateError::Over { status: Some(_) }) => true,
            Err(error) => {
                warn!(job.id = identity.id, error = %error, "GitLab was not told that job {} is waiting", identity.id);
                return Ok(false);
            }
        };
        let task = stored.value.task().map(str::to_owned);
        match Job::read(&claim.body) {
            // GitLab makes `canceled` of it, whatever we say.
            Some(job) if !over => {
                let message = "canceled before its task had begun".to_owned();
                self.decide_and_say(stored.clone(), &job, claim, FailureReason::ScriptFailure, message).await?;
            }
            _ => self.close(stored.clone()).await?,
        }
        if let Some(task) = task {
            self.ecs.stop_task(&task, "the job was canceled in GitLab").await?;
        }
        Ok(true)
    }
}

fn has_task(live: &Live) -> bool {
    live.stored.as_ref().is_some_and(|stored| {
        let record = &stored.value;
        record.task().is_some() && record.decision.is_none() && record.phase != Phase::Settled
    })
}
