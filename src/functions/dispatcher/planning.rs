//! Brings a claimed job to its launch: labels, plan, record.

use std::time::Duration;

use secrecy::ExposeSecret;
use tracing::{info, warn};

use crate::config::Runner;
use crate::functions::Later;
use crate::gitlab::{
    DEFAULT_TIMEOUT_SECONDS, FailureReason, Identity, Job, JobClient, Outcome, UpdateError, changed_flags,
    job_variables, short_token, unsupported,
};
use crate::ledger::{Claim, JobKey, Phase, Record, Stored};
use crate::plan::{build_place, plan};

use super::Dispatcher;
use super::error::DispatchError;
use super::lines::Lines;

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

impl Dispatcher {
    /// Brings `job` as far as it can be brought now; `claim` where it is at hand.
    pub(super) async fn advance(&self, job: &JobKey, claim: Option<Claim>) -> Result<Option<Later>, DispatchError> {
        let claim = match claim {
            Some(claim) => claim,
            None => match self.ledger.claim(job).await? {
                Some(claim) => claim,
                None => return Ok(None),
            },
        };
        let Some(stored) = self.planned(job, &claim).await? else { return Ok(None) };
        if stored.value.phase == Phase::Settled {
            self.forget(&stored.value).await?;
            return Ok(None);
        }
        if stored.value.decision.is_some() {
            self.say(stored, &claim).await?;
            return Ok(None);
        }
        self.launch(stored, &claim).await
    }

    /// The job's record; made now if there is none.
    async fn planned(&self, key: &JobKey, claim: &Claim) -> Result<Option<Stored<Record>>, DispatchError> {
        if let Some(stored) = self.ledger.record(key).await? {
            return Ok(Some(stored));
        }
        let record = match (Job::read(&claim.body), self.fleet.runner(&claim.facts.runner)) {
            (Some(job), Some(runner)) => self.planned_record(key, claim, runner, &job).await,
            (job, None) => {
                warn!(job.id = key.id, runner.name = %claim.facts.runner, "job {} is of a runner that is gone", key.id);
                let record = self.new_record(key, claim, job.as_ref());
                let lines = job.as_ref().map(|job| self.lines(&record, job));
                decided(record, Outcome::failed(FailureReason::RunnerSystemFailure, GONE), lines.as_ref(), self.now())
            }
            (None, Some(_)) => {
                let record = self.new_record(key, claim, None);
                decided(record, Outcome::failed(FailureReason::RunnerSystemFailure, UNREADABLE), None, self.now())
            }
        };
        Ok(Some(self.ledger.create_record(record).await?))
    }

    async fn planned_record(&self, key: &JobKey, claim: &Claim, runner: &Runner, job: &Job) -> Record {
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
            return decided(record, outcome.for_server(&job.features.failure_reasons), Some(&lines), self.now());
        }
        if let Some(outcome) = unsupported(job) {
            record.trace = lines.framed(self.now(), &header);
            return decided(record, outcome.for_server(&job.features.failure_reasons), Some(&lines), self.now());
        }
        let identity = Identity { id: job.id, token: job.token.clone() };
        let tags = match self.job_client(runner.url.as_str(), &identity) {
            Some(client) => tags(&client).await.map_err(|error| error.to_string()),
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
        match plan(job, &tags, &self.fleet, runner) {
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
        }
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
