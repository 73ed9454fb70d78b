//! Goes through live jobs once a minute, off the lease and in shards: if anything died, its job is resumed here.

use std::collections::HashMap;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

use crate::functions::{Event, Later};
use crate::gitlab::{FailureReason, Job, JobStatus, UpdateError, identify};
use crate::launch::Described;
use crate::ledger::{Claim, JobKey, LedgerError, Record, Stored};

use super::error::DispatchError;
use super::reconcile_step::{ReconcileStep, reconcile_step};
use super::wants::Wants;
use super::{AT_ONCE, Batch, Dispatcher};

/// Live jobs of one message.
const SHARD: usize = 500;
/// Records that are read at one time.
const READS_AT_ONCE: usize = 64;
/// Tasks of one DescribeTasks (aws.md §1.4), and such calls at one time.
const TASKS_PER_CALL: usize = 100;
const CALLS_AT_ONCE: usize = 4;
/// No job is begun with less time left.
const STEP_TAKES: SignedDuration = SignedDuration::from_secs(45);
/// A job that was claimed so short a time ago may still be in its holder's memory only.
const HOLDER_HAS_IT: SignedDuration = SignedDuration::from_secs(20);
/// After this time a job that GitLab does not know any more is erased, or its project is deleted. Before, its token may
/// not have reached all of GitLab.
pub(super) const ERASED_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Whether a job without a helper is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is, or GitLab did not answer.
    Yes,
    /// GitLab does not know it; it is too young to give it up.
    Perhaps,
    /// It has ended, here, too.
    No,
}

impl Dispatcher {
    /// Reconciles all live jobs: the first shard here, the others wherever their messages arrive.
    pub(super) async fn reconcile_all(
        &self,
        jobs: Vec<JobKey>,
        batch: &Batch<'_>,
        hops: u8,
        wants: &UnboundedSender<Wants>,
    ) {
        let mut shards = jobs.chunks(SHARD);
        let Some(first) = shards.next() else { return };
        for shard in shards {
            batch.follow_ups.send(Later::new(Event::Reconcile { jobs: shard.to_vec() }, 0), hops).await;
        }
        self.reconcile(first, batch, wants).await;
    }

    /// Reconciles `jobs`. A failure concerns one job: whatever is not done now is the next tick's.
    pub(super) async fn reconcile(&self, jobs: &[JobKey], batch: &Batch<'_>, wants: &UnboundedSender<Wants>) {
        let read = |job: JobKey| async move { (self.ledger.record(&job).await, job) };
        let mut read = stream::iter(jobs.iter().cloned()).map(read).buffer_unordered(READS_AT_ONCE);
        let (mut records, mut unplanned) = (Vec::new(), Vec::new());
        while let Some((record, job)) = read.next().await {
            match record {
                Ok(Some(stored)) => records.push(stored),
                Ok(None) => unplanned.push(job),
                Err(error) => {
                    error!(alarm = "ledger", job.id = job.id, error = %error, "job {} is left out of this tick", job.id);
                }
            }
        }
        let described = self.describe(&records).await;
        let steps = records.into_iter().map(|stored| {
            let described = stored.value.task().and_then(|task| described.get(task)).cloned();
            async move {
                if self.now() + STEP_TAKES >= batch.deadline {
                    return;
                }
                let job = stored.value.job.clone();
                if let Err(error) = self.reconcile_job(stored, described, wants).await {
                    warn!(job.id = job.id, error = %error, "job {} is reconciled at the next tick", job.id);
                }
            }
        });
        stream::iter(steps).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        for job in unplanned {
            if let Err(error) = self.reconcile_claim(&job, wants).await {
                warn!(job.id = job.id, error = %error, "job {} is reconciled at the next tick", job.id);
            }
        }
    }

    /// What ECS answers about the tasks of `records`; a call that fails leaves its tasks out.
    async fn describe(&self, records: &[Stored<Record>]) -> HashMap<String, Described> {
        let needed = |record: &&Stored<Record>| record.value.decision.is_none();
        let tasks: Vec<String> =
            records.iter().filter(needed).filter_map(|stored| stored.value.task().map(str::to_owned)).collect();
        let chunks: Vec<Vec<String>> = tasks.chunks(TASKS_PER_CALL).map(<[String]>::to_vec).collect();
        let calls = chunks.into_iter().map(|tasks| async move { (self.ecs.describe(&tasks).await, tasks) });
        let mut described = HashMap::new();
        let mut answers = stream::iter(calls).buffer_unordered(CALLS_AT_ONCE);
        while let Some((answer, tasks)) = answers.next().await {
            match answer {
                Ok(answer) => described.extend(tasks.into_iter().zip(answer)),
                Err(error) => error!(error = %error, "{} tasks are described at the next tick", tasks.len()),
            }
        }
        described
    }

    async fn reconcile_job(
        &self,
        stored: Stored<Record>,
        described: Option<Described>,
        wants: &UnboundedSender<Wants>,
    ) -> Result<(), DispatchError> {
        let now = self.now();
        let step = reconcile_step(&stored.value, described.as_ref(), now);
        let job = stored.value.job.clone();
        match step {
            ReconcileStep::Nothing => Ok(()),
            ReconcileStep::Forget => self.forget(&stored.value).await,
            ReconcileStep::Report => match self.ledger.claim(&job).await? {
                Some(claim) => self.report(stored, &claim).await,
                None => self.close(stored).await,
            },
            ReconcileStep::Settle(settlement) => {
                let attempt = stored.value.attempt.as_ref().map_or(0, |attempt| attempt.number);
                self.carry_out(stored, attempt, settlement, wants).await
            }
            ReconcileStep::StopOverdue => {
                let task = stored.value.task().unwrap_or_default();
                error!(job.id = job.id, task.arn = task, "job {} is long past its timeout; stopping it", job.id);
                Ok(self.ecs.stop_task(task, "the job is long past its timeout").await?)
            }
            ReconcileStep::FailUnstarted => self.fail_unstarted(stored).await,
            ReconcileStep::KeepAlive { launch } => {
                let Some(claim) = self.ledger.claim(&job).await? else { return Ok(()) };
                let is_young = stored.value.claimed_at + HOLDER_HAS_IT > now;
                if self.keep_alive(&stored, &claim).await? == Wanted::Yes && launch && !is_young {
                    self.want_launch(job, wants).await?;
                }
                Ok(())
            }
        }
    }

    /// A claim without a record: its holder died, or is about to plan it.
    async fn reconcile_claim(&self, job: &JobKey, wants: &UnboundedSender<Wants>) -> Result<(), DispatchError> {
        let Some(facts) = self.ledger.claim_facts(job).await? else { return Ok(()) };
        if facts.at + HOLDER_HAS_IT <= self.now() {
            self.want_launch(job.clone(), wants).await?;
        }
        Ok(())
    }

    /// Wants `job` launched, unless it stands among the jobs that the holders of the lease pass on.
    async fn want_launch(&self, job: JobKey, wants: &UnboundedSender<Wants>) -> Result<(), LedgerError> {
        let waits = self.ledger.lease().await?.is_some_and(|lease| lease.value.waiting.jobs().contains(&job));
        if !waits {
            // The receiver lives as long as the batch.
            drop(wants.send(Wants::launch(job)));
        }
        Ok(())
    }

    async fn fail_unstarted(&self, stored: Stored<Record>) -> Result<(), DispatchError> {
        let task = stored.value.task().map(str::to_owned);
        if let Some(claim) = self.ledger.claim(&stored.value.job).await?
            && let Some(job) = Job::read(&claim.body)
        {
            let message = super::launching::unstarted(&stored.value);
            self.fail(stored, &job, &claim, FailureReason::RunnerSystemFailure, message).await?;
        }
        if let Some(task) = task {
            self.ecs.stop_task(&task, "the job's timeout is over").await?;
        }
        Ok(())
    }

    /// Sends `running` for a job that has no helper yet. The answer says whether it was canceled or erased; then it ends.
    pub(super) async fn keep_alive(&self, stored: &Stored<Record>, claim: &Claim) -> Result<Wanted, DispatchError> {
        let Some(identity) = identify(&claim.body) else { return Ok(Wanted::Yes) };
        let Some(client) = self.job_client(&stored.value.gitlab, &identity) else { return Ok(Wanted::Yes) };
        let is_canceling = match client.keep_alive().await.map(|answer| answer.status) {
            Ok(JobStatus::Running) => return Ok(Wanted::Yes),
            Ok(JobStatus::Canceling) => true,
            Ok(JobStatus::Over(_)) | Err(UpdateError::Over { status: Some(_) }) => false,
            Err(UpdateError::Over { status: None }) => {
                if !is_erased(stored.value.claimed_at, self.now()) {
                    return Ok(Wanted::Perhaps);
                }
                warn!(
                    job.id = identity.id,
                    "GitLab no longer knows job {}: it or its project was deleted", identity.id
                );
                false
            }
            Err(error) => {
                warn!(job.id = identity.id, error = %error, "GitLab did not hear that job {} waits", identity.id);
                return Ok(Wanted::Yes);
            }
        };
        let task = stored.value.task().map(str::to_owned);
        match Job::read(&claim.body) {
            // GitLab makes `canceled` of it, whatever we say.
            Some(job) if is_canceling => {
                let message = "canceled before its task had begun".to_owned();
                self.fail(stored.clone(), &job, claim, FailureReason::ScriptFailure, message).await?;
            }
            _ => self.close(stored.clone()).await?,
        }
        if let Some(task) = task {
            self.ecs.stop_task(&task, "the job was canceled in GitLab").await?;
        }
        Ok(Wanted::No)
    }
}

/// Whether a job that GitLab does not know has been erased, or its project deleted.
pub(super) fn is_erased(claimed_at: Timestamp, now: Timestamp) -> bool {
    now >= claimed_at + ERASED_AFTER
}
