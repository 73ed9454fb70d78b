//! Plays the task of one job: provisioning, pull, a helper that opens its ticket, runs for a while and reports, or dies
//! on the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mayfly::gitlab::{FailureReason, JobClient, Outcome, Sender, TraceError, UpdateError, http_client, identify};
use mayfly::ledger::keys::proof;
use mayfly::ledger::wire::{OpenAnswer, OpenRequest};
use mayfly::sandbox::ecs::{Ending, SimulatedTask};
use secrecy::SecretString;

use crate::random::Random;

/// How tasks fare.
#[derive(Clone, Copy, Debug)]
pub struct Fates {
    /// Seconds in which a task provisions and pulls.
    pub starts: (u64, u64),
    /// Seconds in which a job runs.
    pub runs: (u64, u64),
    /// How many fail to start, for a reason that passes.
    pub fail_to_start: f64,
    /// How many helpers die before they open their ticket.
    pub die_early: f64,
    /// How many helpers die after it.
    pub die_late: f64,
    /// How many are taken back as spot capacity is.
    pub interrupted: f64,
    /// How many scripts fail.
    pub fail: f64,
}

/// What tasks did, by job.
#[derive(Clone, Default)]
pub struct Deeds(Arc<Mutex<BTreeMap<u64, Deed>>>);

/// What the tasks of one job did.
#[derive(Clone, Debug, Default)]
pub struct Deed {
    /// Tasks.
    pub tasks: u32,
    /// Helpers that opened the ticket.
    pub opened: u32,
    /// The outcome that a helper reported or died with.
    pub outcome: Option<&'static str>,
}

impl Deeds {
    pub fn of(&self, job: u64) -> Deed {
        self.0.lock().expect("no panic").get(&job).cloned().unwrap_or_default()
    }

    fn note(&self, job: u64, note: impl FnOnce(&mut Deed)) {
        note(self.0.lock().expect("no panic").entry(job).or_default());
    }
}

/// Plays `task`.
pub async fn play(task: SimulatedTask, fates: Fates, seed: u64, deeds: Deeds) -> Ending {
    let started_by = task.task["startedBy"].as_str().unwrap_or_default().to_owned();
    let mut parts = started_by.split('/').skip(2).map(|part| part.parse::<u64>().unwrap_or_default());
    let (job, attempt) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut random = Random::new(seed, job * 16 + attempt);
    deeds.note(job, |deed| deed.tasks += 1);
    let exited = |helper| Ending::exited([("helper", helper), ("build", 143)]);

    if !task.runs_for(Duration::from_secs(random.between(fates.starts.0, fates.starts.1))).await {
        return exited(13);
    }
    if random.chance(fates.fail_to_start) {
        return Ending::failed_to_start(
            "ResourceInitializationError: Timeout waiting for network interface provisioning",
        );
    }
    task.running();
    if random.chance(fates.die_early) {
        return exited(137);
    }
    let Some(opened) = open(&task).await else { return exited(11) };
    deeds.note(job, |deed| deed.opened += 1);
    let Some(identity) = identify(opened.claim.get().as_bytes()) else { return exited(14) };
    let http = http_client(Sender::Helper).expect("a client");
    let client = JobClient::new(http, &opened.gitlab.parse().expect("a URL"), identity.id, identity.token);

    let until = task.clock.now() + Duration::from_secs(random.between(fates.runs.0, fates.runs.1));
    let interrupted = random.chance(fates.interrupted);
    let dies = random.chance(fates.die_late);
    let outcome = if random.chance(fates.fail) {
        Outcome::failed(FailureReason::ScriptFailure, "the script failed")
    } else {
        Outcome::Success
    };
    while task.clock.now() < until {
        let left = Duration::try_from(until.duration_since(task.clock.now())).unwrap_or_default();
        if !task.runs_for(left.min(Duration::from_secs(30))).await {
            deeds.note(job, |deed| deed.outcome = Some("stopped"));
            return exited(14);
        }
        if let Err(UpdateError::Over { .. }) = client.keep_alive().await {
            deeds.note(job, |deed| deed.outcome = Some("over"));
            return exited(0);
        }
    }
    if interrupted {
        deeds.note(job, |deed| deed.outcome = Some("failed"));
        return Ending::stopped_by_aws("SpotInterruption", "Your Spot Task was interrupted.");
    }
    if dies {
        deeds.note(job, |deed| deed.outcome = Some("failed"));
        return exited(137);
    }
    let said = if outcome == Outcome::Success { "success" } else { "failed" };
    deeds.note(job, |deed| deed.outcome = Some(said));
    let trace = format!("{}done\n", opened.trace);
    match report(&task, &client, trace.as_bytes(), &outcome).await {
        true => exited(0),
        false => exited(14),
    }
}

async fn open(task: &SimulatedTask) -> Option<OpenAnswer> {
    let variable = |name| task.variable("helper", name).map(str::to_owned);
    let (ticket, key, broker) =
        (variable("MAYFLY_TICKET")?, variable("MAYFLY_LAUNCH_KEY")?, variable("MAYFLY_BROKER_URL")?);
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let proof = proof(&SecretString::from(key), &ticket, &nonce);
    let request = OpenRequest { ticket, nonce, proof };
    let http = http_client(Sender::Helper).ok()?;
    for _ in 0..10 {
        if let Ok(answer) = http.post(format!("{broker}/open")).json(&request).send().await {
            match answer.status().as_u16() {
                200 => return answer.json().await.ok(),
                400..=499 => return None,
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    None
}

/// Sends the trace and the outcome, with the patience of the real helper.
async fn report(task: &SimulatedTask, client: &JobClient, trace: &[u8], outcome: &Outcome) -> bool {
    let mut offset = 0;
    for _ in 0..200 {
        let Some(rest) = trace.get(offset..).filter(|rest| !rest.is_empty()) else { break };
        match client.append_trace(offset as u64, Bytes::copy_from_slice(rest), false).await {
            Ok(answer) => offset = usize::try_from(answer.stored).unwrap_or(usize::MAX),
            Err(TraceError::Mismatch { stored }) => offset = usize::try_from(stored).unwrap_or(usize::MAX),
            Err(TraceError::Update(UpdateError::Over { .. })) => return true,
            Err(TraceError::Update(_)) => tokio::time::sleep(Duration::from_secs(2)).await,
        }
    }
    for _ in 0..200 {
        match client.finish(outcome, crc32fast::hash(trace), trace.len() as u64).await {
            Ok(answer) if answer.done => return true,
            Err(UpdateError::Over { .. }) => return true,
            _ if !task.runs_for(Duration::from_secs(2)).await => return false,
            _ => {}
        }
    }
    false
}
