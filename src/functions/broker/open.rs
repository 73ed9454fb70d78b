//! `POST /open`: opens a ticket, the one moment after which a job is never launched again.

use http::StatusCode;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tracing::{error, info};

use crate::cache::object::{CacheSettings, cache_objects};
use crate::config::{Cache, Fleet, JobSettings};
use crate::gitlab::{Job, job_variables};
use crate::ledger::keys::is_proof;
use crate::ledger::wire::{OpenAnswer, OpenRequest, RunnerFacts, RunnerSettings, TaskFacts, Timeline};
use crate::ledger::{CacheGrant, Claim, Grant, OpenRefused, Record, Ticket};
use crate::plan::build_place;

use crate::functions::BrokerKeys;

use super::{Broker, BrokerAnswer, answer, refuse, unavailable};

/// A nonce is at least this long.
const SHORTEST_NONCE: usize = 32;

impl Broker {
    pub(super) async fn open(&self, body: &[u8]) -> BrokerAnswer {
        let Ok(request) = serde_json::from_slice::<OpenRequest>(body) else {
            return refuse(StatusCode::BAD_REQUEST, "not a request to open a ticket");
        };
        let Some(ticket) = self.with_keys(|keys| Ticket::read(&keys.ticket_key, &request.ticket)).await else {
            return refuse(StatusCode::FORBIDDEN, "this is no ticket of ours");
        };
        let is_proved = |keys: &BrokerKeys| {
            is_proof(&keys.launch_key, &request.ticket, &request.nonce, &request.proof).then_some(())
        };
        if request.nonce.len() < SHORTEST_NONCE || self.with_keys(is_proved).await.is_none() {
            error!(
                job.id = ticket.job.id,
                alarm = "ticket",
                "a ticket came without the launch key: a stranger holds it"
            );
            return refuse(StatusCode::FORBIDDEN, "a ticket is worth nothing without the launch key");
        }
        let stored = match self.ledger.record(&ticket.job).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return refuse(StatusCode::FORBIDDEN, "the ledger knows no such job"),
            Err(error) => return unavailable(&error),
        };
        // The claim first: were it gone, an opened record could never be served.
        let claim = match self.ledger.claim(&ticket.job).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return refused(&ticket, OpenRefused::Ended),
            Err(error) => return unavailable(&error),
        };
        let by = hex::encode(Sha256::digest(&request.nonce));
        match self.ledger.change(stored, |record| record.open(ticket.attempt, &by)).await {
            Ok(Ok((stored, ()))) => {
                info!(job.id = ticket.job.id, attempt = ticket.attempt, "opened the ticket of job {}", ticket.job.id);
                self.serve(&stored.value, &claim)
            }
            Ok(Err(why)) => refused(&ticket, why),
            Err(error) => unavailable(&error),
        }
    }

    fn serve(&self, record: &Record, claim: &Claim) -> BrokerAnswer {
        let (Some(job), Ok(body)) = (Job::read(&claim.body), serde_json::from_slice::<Box<RawValue>>(&claim.body))
        else {
            return refuse(StatusCode::GONE, "the claim cannot be read");
        };
        let (cache, settings) = match self.fleet.runner(&record.runner) {
            Some(runner) => (self.fleet.cache_for(runner), self.fleet.settings_for(runner)),
            // It left the fleet meanwhile; its last jobs run as the fleet's.
            None => (self.fleet.cache.clone(), self.fleet.settings.clone()),
        };
        let place = build_place(&settings, &record.short_token);
        let tls_ca = record.gitlab.parse().ok().and_then(|url| self.fleet.tls_ca(&url).map(str::to_owned));
        let settings = RunnerSettings { tls_ca, ..in_task(settings, &cache) };
        let cache = CacheSettings { path: cache.path, shared: cache.shared };
        let entries = cache_objects(&job, &job_variables(&job, &place), &record.short_token, &cache);
        let caches = entries.into_iter().map(|entry| CacheGrant {
            restore: entry.restore.into_iter().map(|candidate| candidate.object).collect(),
            save: entry.save.map(|candidate| candidate.object),
        });
        let attempt = record.attempt.as_ref().map_or(0, |attempt| attempt.number);
        let grant = Grant { job: record.job.clone(), attempt, caches: caches.collect() };
        let passed = (self.now)().duration_since(record.claimed_at).as_millis();
        answer(&OpenAnswer {
            gitlab: record.gitlab.clone(),
            claim: body,
            runner: RunnerFacts {
                name: record.runner.clone(),
                short_token: record.short_token.clone(),
                system_id: self.fleet.system_id.clone(),
            },
            claimed_ms_ago: u64::try_from(passed).unwrap_or(0),
            trace: record.trace.clone(),
            grant: grant.sign(&self.keys.get().grant_key.current),
            settings,
            timeline: Timeline {
                hook_at: None,
                claimed_at: Some(record.claimed_at),
                launched_at: record.attempt.as_ref().map(|attempt| attempt.at),
            },
            task: task_facts(record, &self.fleet),
        })
    }
}

/// What the helper needs to name the price of its task.
fn task_facts(record: &Record, fleet: &Fleet) -> Option<TaskFacts> {
    let (plan, attempt) = (record.plan.as_ref()?, record.attempt.as_ref()?);
    Some(TaskFacts {
        size: plan.size,
        memory: plan.memory,
        disk_gib: plan.disk_gib,
        arch: plan.arch,
        spot: attempt.run_task["capacity_provider"] == "FARGATE_SPOT",
        public_address: fleet.tasks.assign_public_ip,
        region: fleet.region.clone(),
    })
}

/// What acts inside the task.
fn in_task(settings: JobSettings, cache: &Cache) -> RunnerSettings {
    RunnerSettings {
        environment: settings.environment.unwrap_or_default(),
        pre_get_sources_script: settings.pre_get_sources_script,
        post_get_sources_script: settings.post_get_sources_script,
        pre_build_script: settings.pre_build_script,
        post_build_script: settings.post_build_script,
        output_limit: settings.output_limit,
        feature_flags: settings.feature_flags.unwrap_or_default(),
        debug_trace_disabled: settings.debug_trace_disabled.unwrap_or_default(),
        get_sources_timeout: settings.get_sources_timeout,
        clone_url: settings.clone_url,
        max_uploaded_archive_size: Some(cache.max_uploaded_archive_size).filter(|size| *size > 0),
        tls_ca: None,
    }
}

fn refused(ticket: &Ticket, why: OpenRefused) -> BrokerAnswer {
    if matches!(why, OpenRefused::OpenedByAnother | OpenRefused::OtherAttempt) {
        error!(
            job.id = ticket.job.id,
            attempt = ticket.attempt,
            alarm = "ticket",
            "a ticket is in strange hands: {why}"
        );
    }
    refuse(StatusCode::FORBIDDEN, &why.to_string())
}
