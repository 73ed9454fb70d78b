//! Reads events: what to look at, what to bring on, what to check later. Works without the lease.

use tracing::{error, warn};

use crate::functions::{Event, Later};
use crate::gitlab::{JobStatus, UpdateError, identify};
use crate::ledger::{JobKey, Phase};

use super::error::DispatchError;
use super::leased::ALL_JOBS;
use super::{Dispatcher, Wanted};

/// What an event asks for.
#[derive(Debug, Default)]
pub(super) struct Hint {
    pub(super) later: Vec<Later>,
    pub(super) wanted: Wanted,
}

/// How long after a hook its consequences must be there.
const CHECK_AFTER_SECONDS: u64 = 60;

impl Dispatcher {
    pub(super) async fn hint(&self, event: &Event) -> Result<Hint, DispatchError> {
        match event {
            Event::Stopped(stopped) => self.stopped(stopped).await,
            Event::Knock { instance, job } => self.knock(instance.as_deref(), *job).await,
            Event::Look { runner, in_vain } => Ok(Hint::look([(runner.clone(), *in_vain)])),
            Event::Tick => {
                let runners = self.fleet.runners.iter().map(|runner| (runner.name.clone(), FROM_TICK));
                Ok(Hint::look(runners.chain([(ALL_JOBS.to_owned(), 0)])))
            }
            Event::Drive { job } => {
                Ok(Hint { wanted: Wanted { drive: vec![job.clone()], ..Wanted::default() }, ..Hint::default() })
            }
            Event::Finished { instance, job } => self.finished(instance.as_deref(), *job).await,
            Event::CheckFinished { job } => self.check_finished(job).await,
            Event::Running { instance, job, runner } => Ok(self.running(instance.as_deref(), *job, *runner)),
            Event::CheckClaim { job } => self.check_claim(job).await,
        }
    }

    /// A hook that names a job which we have just claimed has nothing new to tell.
    async fn knock(&self, instance: Option<&str>, job: Option<u64>) -> Result<Hint, DispatchError> {
        if let Some(job) = job {
            let lease = self.ledger.lease().await?;
            if self.jobs_named(instance, job).iter().any(|key| lease.knows(&key.to_string())) {
                return Ok(Hint::default());
            }
        }
        Ok(Hint::look(self.runners_of(instance).into_iter().map(|runner| (runner.name.clone(), 0))))
    }

    /// The helper hears of the end itself; its task must be gone a minute later.
    async fn finished(&self, instance: Option<&str>, job: u64) -> Result<Hint, DispatchError> {
        let mut hint = Hint::default();
        for key in self.jobs_named(instance, job) {
            if self.ledger.record(&key).await?.is_some_and(|stored| stored.value.phase != Phase::Settled) {
                hint.later.push(Later::new(Event::CheckFinished { job: key }, CHECK_AFTER_SECONDS));
            }
        }
        Ok(hint)
    }

    async fn check_finished(&self, job: &JobKey) -> Result<Hint, DispatchError> {
        let Some(stored) = self.ledger.record(job).await? else { return Ok(Hint::default()) };
        if stored.value.phase == Phase::Settled {
            return Ok(Hint::default());
        }
        // A hook is only a hint, and may even be another GitLab's: the job's own GitLab says whether it is over.
        let Some(claim) = self.ledger.claim(job).await? else { return Ok(Hint::default()) };
        let Some(identity) = identify(&claim.body) else { return Ok(Hint::default()) };
        let Some(client) = self.job_client(&stored.value.gitlab, &identity) else { return Ok(Hint::default()) };
        match client.keep_alive().await {
            Ok(answer) if matches!(answer.status, JobStatus::Over(_)) => {}
            Err(UpdateError::Over { status: Some(_) }) => {}
            Ok(_) => return Ok(Hint::default()),
            Err(error) => return Err(error.into()),
        }
        if let Some(task) = stored.value.task() {
            warn!(job.id = job.id, task.arn = task, "job {} has ended in GitLab; stopping its task", job.id);
            self.ecs.stop_task(task, "the job has ended in GitLab").await?;
        }
        self.close(stored).await?;
        Ok(Hint::default())
    }

    fn running(&self, instance: Option<&str>, job: u64, runner: u64) -> Hint {
        let ours = self.runners_of(instance).into_iter().find(|ours| ours.id == Some(runner));
        let later =
            ours.map(|ours| Later::new(Event::CheckClaim { job: JobKey::new(&ours.url, job) }, CHECK_AFTER_SECONDS));
        Hint { later: later.into_iter().collect(), ..Hint::default() }
    }

    /// The window that cannot be closed: GitLab gave us a job, and its answer never became bytes in the ledger.
    async fn check_claim(&self, job: &JobKey) -> Result<Hint, DispatchError> {
        let known = self.ledger.record(job).await?.is_some() || self.ledger.claim(job).await?.is_some();
        if !known {
            error!(
                job.id = job.id,
                alarm = "lost_claim",
                "job {} was given to a runner of ours and is not in the ledger; GitLab will end it after an hour",
                job.id
            );
        }
        Ok(Hint::default())
    }
}

/// A look that is due every minute has no chain of its own behind it.
const FROM_TICK: u8 = u8::MAX;

impl Hint {
    fn look(runners: impl IntoIterator<Item = (String, u8)>) -> Hint {
        Hint { wanted: Wanted { looks: runners.into_iter().collect(), ..Wanted::default() }, ..Hint::default() }
    }
}
