//! Launches a planned job: definition, record, `RunTask`, in this order.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::gitlab::{FailureReason, Job, Outcome, job_variables};
use crate::launch::{EcsError, LaunchFacts, RefusalKind, RunTask, definition, run_task};
use crate::ledger::{Claim, Class, JobKey, LaunchState, Record, Stored, Ticket};
use crate::plan::{Plan, build_place, service_environment};

use super::Dispatcher;
use super::after_run_task::{AfterRunTask, after_run_task};
use super::error::DispatchError;
use super::lines::Lines;
use super::planning::{Draft, DraftRecord, Prepared};

/// A registration that AWS did not take is tried again after this time.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// A job that GitLab does not know is looked at again after this time.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(30);

/// What came of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Launch {
    /// The job has a task.
    Launched,
    /// The job needs no launch: it has ended, or has a task from another invocation.
    NotNeeded,
    /// ECS takes no calls for now.
    Throttled,
    /// No spot capacity: the next attempt is on-demand.
    OnDemand,
    /// No capacity.
    NoRoom(RefusalKind),
    /// The same again after this time.
    Again(Duration),
}

impl Dispatcher {
    /// Launches a job in `class`, or repeats a call without a definitive answer.
    pub(super) async fn launch(
        &self,
        key: &JobKey,
        draft: Option<Box<Draft>>,
        class: Class,
    ) -> Result<Launch, DispatchError> {
        let draft = match draft {
            Some(draft) => draft,
            None => match self.prepare(key, None).await? {
                Prepared::Ready(draft) => draft,
                Prepared::Done => return Ok(Launch::NotNeeded),
                Prepared::Unknown => return Ok(Launch::Again(UNKNOWN_AGAIN)),
            },
        };
        let Draft { record, claim, job } = *draft;
        if self.now() >= record.value().deadline() {
            // Should there be a task after all, its ticket opens nothing any more.
            let message = unstarted(record.value());
            let stored = self.store_draft(record).await?;
            self.fail(stored, &job, &claim, FailureReason::RunnerSystemFailure, message).await?;
            return Ok(Launch::NotNeeded);
        }
        let stored = match record.value().next_attempt() {
            None => self.store_draft(record).await?,
            Some(number) => match self.begin_attempt(record, &job, number, class).await? {
                Begun::Attempt(stored) => stored,
                Begun::Waits(stored) => {
                    self.show_trace(&stored.value, &job).await;
                    return Ok(Launch::Again(REGISTER_AGAIN));
                }
                Begun::Impossible(stored, message) => {
                    self.fail(stored, &job, &claim, FailureReason::RunnerSystemFailure, message).await?;
                    return Ok(Launch::NotNeeded);
                }
            },
        };
        self.run(stored, &job, &claim).await
    }

    /// Sends the `RunTask` that stands in the record.
    async fn run(&self, stored: Stored<Record>, job: &Job, claim: &Claim) -> Result<Launch, DispatchError> {
        let attempt = match stored.value.attempt.clone() {
            Some(attempt) if attempt.state == LaunchState::Unknown => attempt,
            _ => return Ok(Launch::NotNeeded),
        };
        let Ok(input) = serde_json::from_value::<RunTask>(attempt.run_task) else {
            let message = "the launch of this job that the ledger holds cannot be read; retry the job".to_owned();
            self.fail(stored, job, claim, FailureReason::RunnerSystemFailure, message).await?;
            return Ok(Launch::NotNeeded);
        };
        // The trace is in the record, so it may be shown; the task needs seconds until it writes behind it.
        let (answer, ()) = tokio::join!(self.ecs.run_task(&input), self.show_trace(&stored.value, job));
        let spot = input.capacity_provider == "FARGATE_SPOT";
        let after = after_run_task(answer, spot, stored.value.refusals);
        let number = attempt.number;
        match after {
            AfterRunTask::Started { task } => {
                info!(job.id = job.id, task.arn = %task, attempt = number, "launched job {} as {task}", job.id);
                // The ticket may be open by now: `started` notes the task all the same.
                if let Err(error) = self.ledger.change(stored, |r| r.started(number, &task)).await? {
                    warn!(job.id = job.id, error = %error, "the launch of job {} was overtaken", job.id);
                }
                Ok(Launch::Launched)
            }
            AfterRunTask::Throttled => Ok(Launch::Throttled),
            AfterRunTask::AskAgain { after, reason } => {
                warn!(job.id = job.id, reason, "it is unknown whether job {} was launched; asking again", job.id);
                Ok(Launch::Again(after))
            }
            AfterRunTask::OnDemand { reason } => {
                self.end_attempt(stored, job, number, (&reason, true), Lines::no_spot).await?;
                Ok(Launch::OnDemand)
            }
            AfterRunTask::WaitForRoom { reason, kind } => {
                self.end_attempt(stored, job, number, (&reason, true), Lines::no_room).await?;
                Ok(Launch::NoRoom(kind))
            }
            AfterRunTask::TryAgain { after, reason } => {
                self.ecs.forget_definitions();
                self.end_attempt(stored, job, number, (&reason, false), Lines::try_again).await?;
                Ok(Launch::Again(after))
            }
            AfterRunTask::Report { reason } => {
                self.ecs.forget_definitions();
                let Some(stored) = self.end_attempt(stored, job, number, (&reason, false), Lines::try_again).await?
                else {
                    return Ok(Launch::NotNeeded);
                };
                let message = format!("AWS refuses to run the job's task: {reason}");
                self.fail(stored, job, claim, FailureReason::RunnerSystemFailure, message).await?;
                Ok(Launch::NotNeeded)
            }
        }
    }

    /// Notes that an attempt brought no task, and why, in the record and in the trace; `None` if the job was overtaken.
    async fn end_attempt(
        &self,
        stored: Stored<Record>,
        job: &Job,
        number: u32,
        (reason, capacity): (&str, bool),
        words: impl Fn(&Lines, &str, Timestamp) -> String,
    ) -> Result<Option<Stored<Record>>, DispatchError> {
        warn!(job.id = job.id, reason, capacity, "job {} was not launched: {reason}", job.id);
        let words = words(&self.lines(&stored.value, job), reason, self.now());
        let over = |r: &mut Record| r.over(number, reason.to_owned(), capacity, &words);
        let Ok((stored, ())) = self.ledger.change(stored, over).await? else { return Ok(None) };
        self.show_trace(&stored.value, job).await;
        Ok(Some(stored))
    }

    /// Writes the literal input of attempt `number` into the record; only then it may be sent.
    async fn begin_attempt(
        &self,
        draft: DraftRecord,
        job: &Job,
        number: u32,
        class: Class,
    ) -> Result<Begun, DispatchError> {
        let Some(plan) = draft.value().plan.clone() else {
            warn!(job.id = job.id, "the record of job {} has no plan", job.id);
            return Ok(Begun::Attempt(self.store_draft(draft).await?));
        };
        let task_definition = match self.ecs.definition(&definition(&plan, &self.fleet), &self.fleet.prefix).await {
            Ok(arn) => arn,
            Err(EcsError::Throttled(operation)) => {
                let stored = self.store_draft(draft).await?;
                warn!(job.id = job.id, operation, "job {} waits for its task definition", job.id);
                return Ok(Begun::Waits(self.say_once(stored, job, Lines::definition).await?));
            }
            Err(EcsError::Failed { operation, reason, definitive: true }) => {
                let message = format!("AWS refuses the job's task definition ({operation}): {reason}");
                return Ok(Begun::Impossible(self.store_draft(draft).await?, message));
            }
            Err(error) => return Err(error.into()),
        };
        let service_files = self.service_files(draft.value(), job, &plan).await?;
        let ticket = Ticket { job: draft.value().job.clone(), attempt: number }.sign(&self.secrets.get().ticket_key);
        let facts = LaunchFacts {
            job: &draft.value().job,
            attempt: number,
            ticket: &ticket,
            task_definition: &task_definition,
            service_files: &service_files,
            spot: class.spot,
        };
        let input = serde_json::to_value(run_task(&plan, facts, &self.fleet)).expect("a launch is plain data");
        let now = self.now();
        let launch = |r: &mut Record| r.launch(number, input.clone(), now);
        Ok(Begun::Attempt(match draft {
            DraftRecord::New(mut record) => {
                launch(&mut record).expect("a new record is planned");
                self.ledger.create_record(record).await?
            }
            DraftRecord::Stored(stored) => match self.ledger.change(stored.clone(), launch).await? {
                Ok((stored, ())) => stored,
                // Another invocation was faster: its record counts.
                Err(_) => self.ledger.record(&stored.value.job).await?.unwrap_or(stored),
            },
        }))
    }

    /// Writes a line into the trace of a job that waits, if it is not there yet.
    pub(super) async fn say_once(
        &self,
        stored: Stored<Record>,
        job: &Job,
        words: impl Fn(&Lines, Timestamp) -> (String, &'static str),
    ) -> Result<Stored<Record>, DispatchError> {
        let (line, mark) = words(&self.lines(&stored.value, job), self.now());
        if stored.value.trace.contains(mark) {
            return Ok(stored);
        }
        let add = |record: &mut Record| record.add_to_trace(&line);
        match self.ledger.change(stored.clone(), add).await? {
            Ok((stored, ())) => Ok(stored),
            Err(_) => Ok(stored),
        }
    }

    async fn service_files(&self, record: &Record, job: &Job, plan: &Plan) -> Result<Vec<String>, DispatchError> {
        let settings =
            self.fleet.runner(&record.runner).map(|runner| self.fleet.settings_for(runner)).unwrap_or_default();
        let variables = job_variables(job, &build_place(&settings, &record.short_token));
        let mut keys = Vec::new();
        for (index, _) in plan.services.iter().enumerate() {
            let service = &job.services[index];
            // A plan is made only where every environment can be written.
            let env = service_environment(&variables, service).unwrap_or_default();
            keys.push(self.ledger.store_service(&record.job, index, env).await?);
        }
        Ok(keys)
    }

    /// Decides that the job fails, and reports it.
    pub(super) async fn fail(
        &self,
        stored: Stored<Record>,
        job: &Job,
        claim: &Claim,
        reason: FailureReason,
        message: String,
    ) -> Result<(), DispatchError> {
        let outcome = Outcome::failed(reason, message).for_server(&job.features.failure_reasons);
        let opened = stored.value.opened_by.is_some();
        // A helper that died may have left half a line.
        let text = format!("{}{}", if opened { "\n" } else { "" }, outcome.last_line());
        let text = self.lines(&stored.value, job).framed(self.now(), &text);
        let decide = |record: &mut Record| record.decide(outcome.clone(), text.clone());
        // A record that is settled has been reported.
        if let Ok((stored, ())) = self.ledger.change(stored, decide).await? {
            self.report_or_leave(stored, claim).await;
        }
        Ok(())
    }
}

/// What came of the beginning of an attempt.
enum Begun {
    /// The record holds an attempt, of this invocation or another.
    Attempt(Stored<Record>),
    /// Its task definition cannot be registered now.
    Waits(Stored<Record>),
    /// It can never be launched.
    Impossible(Stored<Record>, String),
}

/// Why no helper began the job within its timeout.
pub(super) fn unstarted(record: &Record) -> String {
    match record.attempt.as_ref().map(|attempt| &attempt.state) {
        Some(LaunchState::Over { reason, .. }) => {
            format!("no task could be started within the job's timeout: {reason}")
        }
        Some(LaunchState::Unknown) => "AWS did not answer within the job's timeout whether its task was started".into(),
        Some(LaunchState::Started { .. }) => "the task did not begin the job within the job's timeout".into(),
        None => "no task could be started within the job's timeout".into(),
    }
}
