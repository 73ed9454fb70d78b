//! Looks at one runner: claims until GitLab has no more, a cap is reached, or Fargate cannot keep up.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::config::Runner;
use crate::functions::{Event, Later};
use crate::gitlab::{Backoff, Claimed, FailureReason, Outcome, RunnerClient, RunnerError, SystemInfo, identify};
use crate::ledger::{Claim, ClaimFacts, JobKey, Lease};

use super::Dispatcher;
use super::error::DispatchError;
use super::leased::Held;

/// Delays of the looks after one in vain: GitLab's replica may lag behind its hook (gitlab-protocol.md §1.9).
const AGAIN_AFTER_SECONDS: [u64; 3] = [1, 3, 10];
/// Claims in flight for one runner at most.
const MOST_CLAIMS: u32 = 32;

/// What a step of a look came to.
enum Step {
    /// GitLab has answered; a job that it gave is in the ledger by now.
    Asked(Answer),
    /// A claimed job was brought on.
    Driven(Option<Later>),
}

enum Answer {
    Job(JobKey, Claim),
    /// It came to nothing, and is said: whoever cannot keep a job must not take another.
    Unstored,
    Nothing,
    AskAgain,
}

impl Dispatcher {
    /// One look at `runner`, which was looked at `in_vain` times before for the same knock.
    pub(super) async fn look(&self, held: &Held, runner: &Runner, in_vain: u8) -> Result<Vec<Later>, DispatchError> {
        let now = self.now();
        let begun = self.ledger.change_lease(|lease| {
            if lease.is_on_hold(now) { None } else { Some(lease.begin_look(&runner.name, self.look_spacing, now)) }
        });
        match begun.await? {
            // Fargate has no room: the tick or a stopping task comes back to it.
            None => return Ok(Vec::new()),
            Some(Err(None)) => return Ok(Vec::new()),
            Some(Err(Some(at))) => return Ok(vec![self.again_at(runner, in_vain, at)]),
            Some(Ok(())) => {}
        }
        let client = match self.runner_client(runner)? {
            Some(client) => client,
            None => {
                let name = &runner.name;
                error!(runner.name = %name, "runner `{name}` has no token: put it into the stack's secret of runner tokens");
                return Ok(Vec::new());
            }
        };
        self.claim_all(held, runner, &client, in_vain).await
    }

    /// Claims in waves, each twice as large as the one before while GitLab gives jobs, and brings the jobs on meanwhile.
    async fn claim_all(
        &self,
        held: &Held,
        runner: &Runner,
        client: &RunnerClient,
        in_vain: u8,
    ) -> Result<Vec<Later>, DispatchError> {
        let mut later = Vec::new();
        let mut steps: FuturesUnordered<BoxFuture<'_, Step>> = FuturesUnordered::new();
        let (mut in_flight, mut wave, mut claimed, mut open) = (0, 1, 0, true);
        let mut uncounted: Vec<String> = Vec::new();
        let (mut nothing, mut ask_again) = (false, false);
        loop {
            if open && in_flight == 0 {
                let (launches, room) = self.next_wave(held, runner, wave, claimed == 0, &uncounted).await?;
                uncounted.clear();
                if launches == 0 {
                    open = false;
                    if room > 0 {
                        // Fargate's launch rate or our time is used up; a full runner is looked at when a job of it ends.
                        later.extend(self.look_after(runner, in_vain, 1).await?);
                    }
                }
                for _ in 0..launches {
                    in_flight += 1;
                    steps.push(Box::pin(async { Step::Asked(self.claim(runner, client).await) }));
                }
            }
            let Some(step) = steps.next().await else { break };
            let answer = match step {
                Step::Driven(next) => {
                    later.extend(next);
                    continue;
                }
                Step::Asked(answer) => answer,
            };
            in_flight -= 1;
            match answer {
                Answer::Job(job, claim) => {
                    claimed += 1;
                    wave = (wave * 2).min(MOST_CLAIMS);
                    uncounted.push(job.to_string());
                    steps.push(Box::pin(async move { Step::Driven(self.bring_on(job, claim).await) }));
                }
                Answer::Unstored => open = false,
                Answer::Nothing => (open, nothing) = (false, true),
                Answer::AskAgain => (open, ask_again) = (false, true),
            }
        }
        info!(runner.name = %runner.name, claimed, "looked at runner `{}`: {claimed} jobs", runner.name);
        if !uncounted.is_empty() {
            let count = |lease: &mut Lease| uncounted.iter().for_each(|job| lease.claimed(&runner.name, job));
            self.ledger.change_lease(count).await?;
        }
        // Who asked nobody, for want of room, has nothing to ask again.
        if (nothing && claimed == 0) || ask_again {
            let step = if claimed == 0 { in_vain } else { 0 };
            if let Some(seconds) = AGAIN_AFTER_SECONDS.get(usize::from(step)) {
                later.extend(self.look_after(runner, step + 1, *seconds).await?);
            }
        }
        later.iter_mut().for_each(|later| later.begins_chain = claimed > 0);
        Ok(later)
    }

    /// How many claims may be made now, of `wanted`; and how many jobs the runner may still have.
    async fn next_wave(
        &self,
        held: &Held,
        runner: &Runner,
        wanted: u32,
        first: bool,
        claimed: &[String],
    ) -> Result<(u32, u32), DispatchError> {
        let now = self.now();
        let may = if held.may_claim(now) { wanted } else { 0 };
        let wave = self.ledger.change_lease(|lease| {
            claimed.iter().for_each(|job| lease.claimed(&runner.name, job));
            let may = match (lease.is_probing(now), first) {
                (true, true) => may.min(1),
                (true, false) => 0,
                (false, _) => may,
            };
            let room = if lease.is_on_hold(now) { 0 } else { lease.room(&runner.name, runner.limit) };
            (lease.take_launches(may.min(room), now), room)
        });
        Ok(wave.await?)
    }

    /// One claim. Its bytes are in the ledger when this returns: nothing else is begun before.
    async fn claim(&self, runner: &Runner, client: &RunnerClient) -> Answer {
        match client.claim().await {
            Ok(Claimed::Job(body)) => self.take(runner, body).await.unwrap_or(Answer::Unstored),
            Ok(Claimed::Nothing) => Answer::Nothing,
            Ok(Claimed::AskAgain) => Answer::AskAgain,
            Err(error) => {
                error!(runner.name = %runner.name, error = %error, "runner `{}`: {error}", runner.name);
                let later = matches!(error, RunnerError::Unavailable(_) | RunnerError::Transport(_));
                if later { Answer::AskAgain } else { Answer::Nothing }
            }
        }
    }

    /// A job is ours. Its bytes go to the ledger before anything is asked of them or of anybody else.
    async fn take(&self, runner: &Runner, body: Bytes) -> Option<Answer> {
        let at = self.now();
        let Some(identity) = identify(&body) else {
            error!(alarm = "lost_claim", bytes = body.len(), "a claim names no job: GitLab will end it after an hour");
            return None;
        };
        let job = JobKey::new(&runner.url, identity.id);
        let facts = ClaimFacts { runner: runner.name.clone(), gitlab: runner.url.to_string(), at };
        let mut backoff = Backoff::new(6, Duration::from_millis(100), Duration::from_secs(5));
        while let Err(error) = self.ledger.store_claim(&job, body.clone(), &facts).await {
            warn!(job.id = job.id, error = %error, "the claim of job {} could not be stored yet", job.id);
            match backoff.pause(None) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    let outcome = Outcome::failed(
                        FailureReason::RunnerSystemFailure,
                        "Mayfly could not store the job in its ledger; retry it",
                    );
                    self.say_at_once(runner, &identity, &outcome).await;
                    return None;
                }
            }
        }
        info!(job.id = job.id, runner.name = %runner.name, "claimed job {}", job.id);
        Some(Answer::Job(job, Claim { body, facts }))
    }

    /// Brings a job on that was just claimed; what goes wrong is the next tick's.
    async fn bring_on(&self, job: JobKey, claim: Claim) -> Option<Later> {
        match self.advance(&job, Some(claim)).await {
            Ok(later) => later,
            Err(error) => {
                warn!(job.id = job.id, error = %error, "job {} waits in the ledger", job.id);
                Some(Later::new(Event::Drive { job }, 5))
            }
        }
    }

    /// A delayed look, unless one is on its way that comes no later.
    async fn look_after(&self, runner: &Runner, in_vain: u8, seconds: u64) -> Result<Option<Later>, DispatchError> {
        let now = self.now();
        let at = now + Duration::from_secs(seconds);
        let expected = self.ledger.change_lease(|lease| lease.expect_look(&runner.name, at, now)).await?;
        let event = Event::Look { runner: runner.name.clone(), in_vain };
        Ok(expected.then(|| Later::new(event, seconds)))
    }

    fn again_at(&self, runner: &Runner, in_vain: u8, at: Timestamp) -> Later {
        let delay = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        // Queues count in whole seconds, which is how far looks are apart there.
        let spacing = self.look_spacing.as_secs_f64().max(0.001);
        let delay = Duration::from_secs_f64((delay.as_secs_f64() / spacing).ceil() * spacing);
        Later::after(Event::Look { runner: runner.name.clone(), in_vain }, delay)
    }

    fn runner_client(&self, runner: &Runner) -> Result<Option<RunnerClient>, DispatchError> {
        let secrets = self.secrets.get();
        let Some(token) = secrets.runner_tokens.get(&runner.name) else { return Ok(None) };
        let system = SystemInfo { system_id: self.fleet.system_id.clone() };
        Ok(Some(RunnerClient::new(&runner.url, token.clone(), system, runner.tls_ca.as_deref())?))
    }
}
