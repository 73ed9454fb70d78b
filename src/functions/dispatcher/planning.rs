//! Plans a claimed job: labels, plan, record.

use std::time::Duration;

use secrecy::ExposeSecret;
use tracing::{info, warn};

use crate::config::Runner;
use crate::gitlab::{
    DEFAULT_TIMEOUT_SECONDS, FailureReason, Identity, Job, JobClient, Outcome, UpdateError, changed_flags,
    job_variables, short_token, unsupported,
};
use crate::ledger::{Claim, JobKey, Record, Stored};
use crate::plan::{build_place, plan};

use super::Dispatcher;
use super::error::DispatchError;
use super::lines::Lines;
use super::reconcile_step::needs_launch;
use super::reconciling::is_erased;

/// What a job's author reads when a claim has a shape that nobody knows.
const UNREADABLE: &str =
    "GitLab sent this job in a shape that Mayfly cannot read; please report it with GitLab's version";
/// A function URL answers at most 6 MB (aws.md §4.1), in which the claim is a quoted text.
const LARGEST_CLAIM: usize = 4 << 20;
const TOO_LARGE: &str =
    "the job's script and variables are larger than 4 MiB: move large values into files or artifacts";
/// What a job's author reads when its runner left the fleet between claim and plan.
const GONE: &str = "the runner that claimed this job is no longer in Mayfly's fleet configuration; retry the job";
/// Pauses between the tries to learn a job's tags.
const TAG_PAUSES_MS: [u64; 4] = [200, 500, 1000, 2000];

/// A job that is ready for its next launch.
pub(super) struct Draft {
    pub(super) record: DraftRecord,
    pub(super) claim: Claim,
    pub(super) job: Job,
}

/// The record of a [`Draft`].
pub(super) enum DraftRecord {
    /// It is not in the ledger yet: the first launch is written with it.
    New(Record),
    /// As the ledger has it.
    Stored(Stored<Record>),
}

/// What became of a job that was to be prepared for its launch.
pub(super) enum Prepared {
    /// It can be launched.
    Ready(Box<Draft>),
    /// It has a task, or it has ended.
    Done,
    /// GitLab does not know it: nothing is launched until it does, or until it is certain that it was deleted.
    Unknown,
}

/// What came of the planning of a claim.
enum Planned {
    /// The record, planned or decided.
    Record(Box<Record>),
    /// GitLab does not know the job.
    Unknown,
    /// The job has ended.
    Over,
}

impl DraftRecord {
    pub(super) fn value(&self) -> &Record {
        match self {
            DraftRecord::New(record) => record,
            DraftRecord::Stored(stored) => &stored.value,
        }
    }
}

impl Dispatcher {
    /// Prepares `job` for its launch; `new` is the claim of a job that was claimed in this moment.
    pub(super) async fn prepare(&self, key: &JobKey, new: Option<Claim>) -> Result<Prepared, DispatchError> {
        let stored = if new.is_some() { None } else { self.ledger.record(key).await? };
        if let Some(stored) = &stored
            && stored.value.decision.is_none()
            && !needs_launch(&stored.value)
        {
            return Ok(Prepared::Done);
        }
        let claim = match new {
            Some(claim) => claim,
            None => match self.ledger.claim(key).await? {
                Some(claim) => claim,
                None => return Ok(Prepared::Done),
            },
        };
        let job = Job::read(&claim.body);
        let record = match stored {
            Some(stored) => DraftRecord::Stored(stored),
            None => match self.new_planned_record(key, &claim, job.as_ref()).await {
                Planned::Record(record) => DraftRecord::New(*record),
                Planned::Unknown if !is_erased(claim.facts.at, self.now()) => return Ok(Prepared::Unknown),
                Planned::Unknown | Planned::Over => {
                    warn!(job.id = key.id, "job {} has ended in GitLab before it was launched", key.id);
                    let record = self.new_record(key, &claim, job.as_ref());
                    let stored = self.ledger.create_record(record).await?;
                    self.close(stored).await?;
                    return Ok(Prepared::Done);
                }
            },
        };
        match job {
            Some(job) if record.value().decision.is_none() => {
                Ok(Prepared::Ready(Box::new(Draft { record, claim, job })))
            }
            _ => {
                let stored = self.store_draft(record).await?;
                self.report_or_leave(stored, &claim).await;
                Ok(Prepared::Done)
            }
        }
    }

    /// Writes the record, unless the ledger has it; the record that the ledger has then.
    pub(super) async fn store_draft(&self, record: DraftRecord) -> Result<Stored<Record>, DispatchError> {
        Ok(match record {
            DraftRecord::New(record) => self.ledger.create_record(record).await?,
            DraftRecord::Stored(stored) => stored,
        })
    }

    async fn new_planned_record(&self, key: &JobKey, claim: &Claim, job: Option<&Job>) -> Planned {
        let record = match (job, self.fleet.runner(&claim.facts.runner)) {
            (Some(job), Some(runner)) => return self.planned_record(key, claim, runner, job).await,
            (job, None) => {
                warn!(job.id = key.id, runner.name = %claim.facts.runner, "job {} is of a runner that is gone", key.id);
                let record = self.new_record(key, claim, job);
                let lines = job.map(|job| self.lines(&record, job));
                decided(record, Outcome::failed(FailureReason::RunnerSystemFailure, GONE), lines.as_ref(), self.now())
            }
            (None, Some(_)) => {
                let record = self.new_record(key, claim, None);
                decided(record, Outcome::failed(FailureReason::RunnerSystemFailure, UNREADABLE), None, self.now())
            }
        };
        Planned::Record(Box::new(record))
    }

    async fn planned_record(&self, key: &JobKey, claim: &Claim, runner: &Runner, job: &Job) -> Planned {
        let mut record = self.new_record(key, claim, Some(job));
        let lines = self.lines(&record, job);
        let flags = match changed_flags(&job_variables(job, &build_place(&self.fleet.settings_for(runner), ""))) {
            none if none.is_empty() => none,
            flags => format!("\x1b[0K  feature flags: {flags}\n"),
        };
        let header = format!(
            "\x1b[0KRunning with mayfly {}\n\x1b[0K  on {} {}, system ID: {}{}\n{flags}",
            env!("CARGO_PKG_VERSION"),
            runner.name,
            record.short_token,
            self.fleet.system_id,
            if runner.protected { ", for protected refs only" } else { "" }
        );
        if claim.body.len() > LARGEST_CLAIM {
            record.trace = lines.framed(self.now(), &header);
            let outcome = Outcome::failed(FailureReason::RunnerConfigurationError, TOO_LARGE);
            let outcome = outcome.for_server(&job.features.failure_reasons);
            return Planned::Record(Box::new(decided(record, outcome, Some(&lines), self.now())));
        }
        if let Some(outcome) = unsupported(job) {
            record.trace = lines.framed(self.now(), &header);
            let outcome = outcome.for_server(&job.features.failure_reasons);
            return Planned::Record(Box::new(decided(record, outcome, Some(&lines), self.now())));
        }
        let identity = Identity { id: job.id, token: job.token.clone() };
        let tags = match self.job_client(runner.url.as_str(), &identity) {
            Some(client) => match tags(&client).await {
                Err(UpdateError::Over { status: Some(_) }) => return Planned::Over,
                // Two different requests are refused alike: it is not a rule of a proxy for one of them.
                Err(UpdateError::Over { status: None }) if is_unknown(&client).await => return Planned::Unknown,
                tags => tags.map_err(|error| error.to_string()),
            },
            None => Err("there is no client for this GitLab".to_owned()),
        };
        let (tags, note) = match tags {
            Ok(tags) => (tags, None),
            Err(error) => {
                warn!(job.id = key.id, error, "the tags of job {} cannot be read", key.id);
                let text = "GitLab does not tell this job's tags now; its size comes from variables and defaults";
                (Vec::new(), Some(format!("\x1b[0;33mWARNING: {text}\x1b[0;m")))
            }
        };
        let record = match plan(job, &tags, &self.fleet, runner) {
            Ok(plan) => {
                info!(job.id = key.id, task.size = %plan.size, "planned job {} with {}", key.id, plan.size);
                let told = note.iter().chain(&plan.words).map(|line| format!("\x1b[0K{line}\n"));
                let words = lines.framed(self.now(), &(header + &told.collect::<String>()));
                record.plan(plan, &words).expect("a new record is claimed");
                record
            }
            Err(error) => {
                let told = error.words().into_iter().map(|line| format!("\x1b[0K{line}\n"));
                record.trace = lines.framed(self.now(), &(header + &told.collect::<String>()));
                let message = lines.masked(&error.to_string());
                let outcome = Outcome::failed(FailureReason::RunnerConfigurationError, message);
                decided(record, outcome.for_server(&job.features.failure_reasons), Some(&lines), self.now())
            }
        };
        Planned::Record(Box::new(record))
    }

    fn new_record(&self, key: &JobKey, claim: &Claim, job: Option<&Job>) -> Record {
        let facts = &claim.facts;
        let secrets = self.secrets.get();
        let token = secrets.runner_tokens.get(&facts.runner).map(|token| short_token(token.expose_secret()));
        let timeout = job.and_then(|job| job.runner.timeout).unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        Record::claimed(key.clone(), &facts.runner, &facts.gitlab, token.unwrap_or_default(), facts.at, timeout)
    }
}

/// A record whose end is known before it has begun; the text is framed as the lines above it.
fn decided(mut record: Record, outcome: Outcome, lines: Option<&Lines>, now: jiff::Timestamp) -> Record {
    let line = outcome.last_line();
    let text = lines.map_or_else(|| line.clone(), |lines| lines.framed(now, &line));
    record.decide(outcome, text).expect("a new record is not settled");
    record
}

/// Whether GitLab does not know the job, of which it gave no status (gitlab-protocol.md §5.3).
async fn is_unknown(client: &JobClient) -> bool {
    matches!(client.keep_alive().await, Err(UpdateError::Over { status: None }))
}

/// The job's tags; the first tries may come before GitLab knows the token (gitlab-protocol.md §8.1).
async fn tags(client: &JobClient) -> Result<Vec<String>, UpdateError> {
    let mut pauses = TAG_PAUSES_MS.into_iter();
    loop {
        match client.tags().await {
            Ok(tags) => return Ok(tags),
            Err(error) => match error.retry().and_then(|_| pauses.next()) {
                Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
                None => return Err(error),
            },
        }
    }
}
