//! Launches a planned job: definition, record, `RunTask`, in this order.

use jiff::Timestamp;
use tracing::{info, warn};

use crate::functions::{Event, Later};
use crate::gitlab::{FailureReason, Job, Outcome, job_variables};
use crate::launch::{EcsError, LaunchFacts, Launched, RunTask, definition, run_task};
use crate::ledger::{Claim, LaunchState, Record, Stored, Ticket};
use crate::plan::{Plan, build_place, service_environment};

use super::Dispatcher;
use super::error::DispatchError;
use super::lines::Lines;

/// After so many refusals that are not about capacity we stop asking.
const MOST_REFUSALS: u32 = 3;

impl Dispatcher {
    /// Launches the job of `stored`, or sends again what was sent without a definitive answer.
    pub(super) async fn launch(
        &self,
        mut stored: Stored<Record>,
        claim: &Claim,
    ) -> Result<Option<Later>, DispatchError> {
        let Some(job) = Job::read(&claim.body) else { return Ok(None) };
        let again = |stored: &Stored<Record>, seconds| {
            Ok(Some(Later::new(Event::Drive { job: stored.value.job.clone() }, seconds)))
        };
        loop {
            if let Some(number) = stored.value.next_attempt() {
                if self.now() >= stored.value.deadline() {
                    let message = waited_in_vain(&stored.value);
                    self.decide_and_say(stored, &job, claim, FailureReason::RunnerSystemFailure, message).await?;
                    return Ok(None);
                }
                stored = match self.begin_attempt(&stored, &job, number).await {
                    Ok(stored) => stored,
                    Err(DispatchError::Ecs(EcsError::Failed { operation, reason, definitive: true })) => {
                        let message = format!("AWS refuses the job's task definition ({operation}): {reason}");
                        self.decide_and_say(stored, &job, claim, FailureReason::RunnerSystemFailure, message).await?;
                        return Ok(None);
                    }
                    Err(DispatchError::Ecs(EcsError::Throttled(_))) => return again(&stored, 3),
                    Err(error) => return Err(error),
                };
                self.show_trace(&stored.value, &job).await;
            }
            let Some(attempt) = stored.value.attempt.clone() else { return Ok(None) };
            if attempt.state != LaunchState::Unknown {
                return Ok(None);
            }
            if self.now() >= stored.value.deadline() {
                // Should there be a task after all, its ticket opens nothing any more.
                let message = "AWS did not tell within the job's timeout whether its task was started".to_owned();
                self.decide_and_say(stored, &job, claim, FailureReason::RunnerSystemFailure, message).await?;
                return Ok(None);
            }
            let Ok(input) = serde_json::from_value::<RunTask>(attempt.run_task) else {
                let message = "the ledger's launch of this job cannot be read".to_owned();
                self.decide_and_say(stored, &job, claim, FailureReason::RunnerSystemFailure, message).await?;
                return Ok(None);
            };
            match self.ecs.run_task(&input).await {
                Launched::Started { task } => {
                    info!(job.id = job.id, task.arn = %task, attempt = attempt.number, "launched job {} as {task}", job.id);
                    // The ticket may be open by now: then there is nothing to note but the task, which `started` does.
                    if let Err(error) = self.ledger.change(stored, |r| r.started(attempt.number, &task)).await? {
                        warn!(job.id = job.id, error = %error, "the launch of job {} was overtaken", job.id);
                    }
                    if attempt.number > 1 || self.ledger.last_lease().is_some_and(|lease| lease.doubts_capacity()) {
                        // What could not be had before is there again.
                        self.ledger.change_lease(|lease| lease.end_hold()).await?;
                    }
                    return Ok(None);
                }
                Launched::Throttled => return again(&stored, 2),
                Launched::Unknown { reason } => {
                    warn!(job.id = job.id, reason, "nobody knows whether job {} was launched; asking again", job.id);
                    return again(&stored, 5);
                }
                Launched::Refused { reason, capacity } => {
                    let spot = input.capacity_provider == "FARGATE_SPOT";
                    let lines = self.lines(&stored.value, &job);
                    let words = refusal_words(&reason, capacity, spot, &lines, self.now());
                    warn!(job.id = job.id, reason, capacity, "job {} was not launched: {reason}", job.id);
                    let over = |r: &mut Record| r.over(attempt.number, reason.clone(), capacity, &words);
                    stored = match self.ledger.change(stored, over).await? {
                        Ok((stored, ())) => stored,
                        Err(_) => return Ok(None),
                    };
                    if capacity && !spot {
                        let now = self.now();
                        self.ledger.change_lease(|lease| lease.hold(now)).await?;
                    }
                    self.show_trace(&stored.value, &job).await;
                    if capacity && !spot {
                        return Ok(None);
                    }
                    if !capacity {
                        self.ecs.forget_definitions();
                    }
                    if !capacity && stored.value.refusals < MOST_REFUSALS {
                        return again(&stored, 5);
                    }
                    if !capacity {
                        let message = format!("AWS refuses to run the job's task: {reason}");
                        self.decide_and_say(stored, &job, claim, FailureReason::RunnerSystemFailure, message).await?;
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Writes the literal input of attempt `number` into the record; only then it may be sent.
    async fn begin_attempt(
        &self,
        stored: &Stored<Record>,
        job: &Job,
        number: u32,
    ) -> Result<Stored<Record>, DispatchError> {
        let record = &stored.value;
        let Some(plan) = record.plan.clone() else { return Ok(stored.clone()) };
        let task_definition = self.ecs.definition(&definition(&plan, &self.fleet), &self.fleet.prefix).await?;
        let service_files = self.service_files(record, job, &plan).await?;
        let ticket = Ticket { job: record.job.clone(), attempt: number }.sign(&self.secrets.get().ticket_key);
        let facts = LaunchFacts {
            job: &record.job,
            attempt: number,
            ticket: &ticket,
            task_definition: &task_definition,
            service_files: &service_files,
        };
        let input = serde_json::to_value(run_task(&plan, facts, &self.fleet)).expect("a launch is plain data");
        let now = self.now();
        let changed = self.ledger.change(stored.clone(), |r| r.launch(number, input.clone(), now)).await?;
        match changed {
            Ok((stored, ())) => Ok(stored),
            // Another of us was faster: his record counts.
            Err(_) => Ok(self.ledger.record(&record.job).await?.unwrap_or_else(|| stored.clone())),
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

    pub(super) async fn decide_and_say(
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
        match self.ledger.change(stored, |record| record.decide(outcome.clone(), text.clone())).await? {
            Ok((stored, ())) => self.say(stored, claim).await,
            Err(_) => Ok(()),
        }
    }
}

fn refusal_words(reason: &str, capacity: bool, spot: bool, lines: &Lines, now: Timestamp) -> String {
    let what = match (capacity, spot) {
        (true, true) => "No spot capacity now; taking on-demand capacity",
        (true, false) => "Waiting for Fargate capacity; the next try is when a task of ours ends, or in a minute",
        (false, _) => "AWS did not start the task; trying again",
    };
    lines.framed(now, &format!("\x1b[0K{what} ({reason})\n"))
}

fn waited_in_vain(record: &Record) -> String {
    match record.attempt.as_ref().map(|attempt| &attempt.state) {
        Some(LaunchState::Over { reason, .. }) => {
            format!("no task could be started within the job's timeout: {reason}")
        }
        _ => "no task could be started within the job's timeout".into(),
    }
}
