//! Reads events: what each one needs by itself, and what it wants of the holder of the lease.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::functions::{Event, Later, Message};
use crate::gitlab::{JobStatus, UpdateError, identify};
use crate::ledger::{JobKey, Phase};

use super::error::DispatchError;
use super::wants::{FROM_TICK, WantedPoll, Wants};
use super::{Batch, Dispatcher};

/// How long after a hook its consequences must be there.
const CHECK_AFTER_SECONDS: u64 = 60;
/// The jobs of a tick are reconciled after this time at the latest, even if the work under the lease goes on.
const RECONCILE_AFTER: Duration = Duration::from_secs(3);
/// A hook that names more jobs than these is not looked up: it is a knock in any case.
const LOOKED_UP: usize = 5;

impl Dispatcher {
    /// Handles one event.
    pub(super) async fn event(
        &self,
        message: &Message,
        batch: &Batch<'_>,
        wants: &UnboundedSender<Wants>,
    ) -> Result<(), DispatchError> {
        // The receiver lives as long as the batch.
        let want = |wanted: Wants| drop(wants.send(wanted));
        match &message.event {
            Event::Stopped(stopped) => return self.task_stopped(stopped, wants).await,
            Event::Knock { instance, jobs } => {
                if !self.are_known(instance.as_deref(), jobs).await? {
                    let runners = self.runners_of(instance.as_deref()).into_iter().map(|runner| runner.name.clone());
                    let job = jobs.first().copied().filter(|_| jobs.len() == 1);
                    want(Wants::poll(runners, 0, job));
                }
            }
            Event::Poll { runner, in_vain } => {
                let poll = WantedPoll { in_vain: *in_vain, job: None };
                want(Wants { polls: [(runner.clone(), poll)].into(), ..Wants::default() });
            }
            Event::Tick => return self.tick(batch, message.hops, wants).await,
            Event::Wake => want(Wants { wake: true, ..Wants::default() }),
            Event::Reconcile { jobs } => self.reconcile(jobs, batch, wants).await,
            Event::Drive { job } => self.reconcile(std::slice::from_ref(job), batch, wants).await,
            Event::Finished { instance, job } => {
                for key in self.jobs_named(instance.as_deref(), *job) {
                    if self.ledger.record(&key).await?.is_some_and(|stored| stored.value.phase != Phase::Settled) {
                        // The helper hears of the end itself; its task must be gone a minute later.
                        let check = Later::new(Event::CheckFinished { job: key }, CHECK_AFTER_SECONDS);
                        batch.follow_ups.send(check, message.hops).await;
                    }
                }
            }
            Event::CheckFinished { job } => return self.check_finished(job).await,
            Event::Running { instance, job, runner } => {
                let runners = self.runners_of(instance.as_deref());
                if let Some(ours) = runners.into_iter().find(|ours| ours.id == Some(*runner)) {
                    let check = Event::CheckClaim { job: JobKey::new(&ours.url, *job) };
                    batch.follow_ups.send(Later::new(check, CHECK_AFTER_SECONDS), message.hops).await;
                }
            }
            Event::CheckClaim { job } => return self.check_claim(job).await,
        }
        Ok(())
    }

    /// Whether all jobs that a hook names are claimed by us: then it has nothing new.
    async fn are_known(&self, instance: Option<&str>, jobs: &[u64]) -> Result<bool, DispatchError> {
        if jobs.is_empty() || jobs.len() > LOOKED_UP {
            return Ok(false);
        }
        let is_known = |job: u64| async move {
            for key in self.jobs_named(instance, job) {
                if self.ledger.claim_facts(&key).await?.is_some() {
                    return Ok::<bool, DispatchError>(true);
                }
            }
            Ok(false)
        };
        let known: Result<Vec<bool>, _> = join_all(jobs.iter().map(|job| is_known(*job))).await.into_iter().collect();
        Ok(known?.into_iter().all(|known| known))
    }

    /// A minute has passed: polls all runners, and reconciles all live jobs.
    async fn tick(&self, batch: &Batch<'_>, hops: u8, wants: &UnboundedSender<Wants>) -> Result<(), DispatchError> {
        let (listing, listed) = oneshot::channel();
        drop(wants.send(Wants { all: true, wake: true, listing: Some(listing), ..Wants::default() }));
        // The listing that ends the work under the lease is ours, too: an idle tick needs no other.
        let jobs = match tokio::time::timeout(RECONCILE_AFTER, listed).await {
            Ok(Ok(jobs)) => jobs,
            _ => self.ledger.live_jobs().await?,
        };
        self.reconcile_all(jobs, batch, hops, wants).await;
        Ok(())
    }

    async fn check_finished(&self, job: &JobKey) -> Result<(), DispatchError> {
        let Some(stored) = self.ledger.record(job).await? else { return Ok(()) };
        if stored.value.phase == Phase::Settled {
            return Ok(());
        }
        // A hook is only a hint, and may even be another GitLab's: the job's own GitLab says whether it is over.
        let Some(claim) = self.ledger.claim(job).await? else { return Ok(()) };
        let Some(identity) = identify(&claim.body) else { return Ok(()) };
        let Some(client) = self.job_client(&stored.value.gitlab, &identity) else { return Ok(()) };
        match client.keep_alive().await {
            Ok(answer) if matches!(answer.status, JobStatus::Over(_)) => {}
            Err(UpdateError::Over { status: Some(_) }) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if let Some(task) = stored.value.task() {
            warn!(job.id = job.id, task.arn = task, "job {} has ended in GitLab; stopping its task", job.id);
            self.ecs.stop_task(task, "the job has ended in GitLab").await?;
        }
        self.close(stored).await
    }

    /// The window that cannot be closed: GitLab gave us a job, and its answer never became bytes in the ledger.
    async fn check_claim(&self, job: &JobKey) -> Result<(), DispatchError> {
        let known = self.ledger.record(job).await?.is_some() || self.ledger.claim_facts(job).await?.is_some();
        if !known {
            error!(
                job.id = job.id,
                alarm = "lost_claim",
                "job {} was given to a runner of ours and is not in the ledger; GitLab will end it after an hour",
                job.id
            );
        }
        Ok(())
    }
}

impl Wants {
    /// Polls of all runners, as a tick wants them.
    pub(super) fn polls_of_tick(&self, runners: impl IntoIterator<Item = String>) -> Vec<(String, WantedPoll)> {
        let poll = WantedPoll { in_vain: FROM_TICK, job: None };
        if self.all { runners.into_iter().map(|runner| (runner, poll)).collect() } else { Vec::new() }
    }
}
