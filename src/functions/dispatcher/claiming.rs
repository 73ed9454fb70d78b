//! Claims jobs for one runner: one request after the other while there is nothing, waves while there is.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::config::Runner;
use crate::functions::{Event, Later};
use crate::gitlab::{Backoff, Claimed, FailureReason, Outcome, RunnerClient, RunnerError, SystemInfo, identify};
use crate::ledger::{Claim, ClaimFacts, JobKey, PollStart, WaitingJob};

use super::Dispatcher;
use super::admission::Unlaunched;
use super::error::DispatchError;
use super::work::{Step, Work};

/// Delays of the polls after an empty one: GitLab's replica may lag behind its hook (gitlab-protocol.md §1.9).
const AGAIN_AFTER_SECONDS: [u64; 3] = [1, 3, 10];

/// Claims of one wave at most.
const LARGEST_WAVE: usize = 32;

/// A poll of one runner.
pub(super) struct Poll {
    pub(super) client: RunnerClient,
    /// How often the runner was polled in vain for the same knock.
    pub(super) in_vain: u8,
    /// Claims that are not answered yet.
    pub(super) in_flight: usize,
    /// Claims of the next wave.
    pub(super) wave: usize,
    /// Jobs so far.
    pub(super) claimed: usize,
    /// No further claim is made.
    pub(super) closed: bool,
    /// The runner's jobs were counted again, because its limit seemed to be reached.
    pub(super) counted: bool,
    empty: bool,
    ask_again: bool,
}

/// What one claim request brought.
pub(super) enum Answer {
    /// A job, which is in the ledger.
    Job(JobKey, Claim),
    /// A job that could not be stored; its failure is reported. Whoever cannot keep a job must not take another.
    Unstored,
    /// No job waits.
    Nothing,
    /// Perhaps a job waits.
    AskAgain,
}

impl Poll {
    pub(super) fn new(client: RunnerClient, in_vain: u8) -> Poll {
        Poll {
            client,
            in_vain,
            in_flight: 0,
            wave: 1,
            claimed: 0,
            closed: false,
            counted: false,
            empty: false,
            ask_again: false,
        }
    }

    /// Notes the answer to one claim; the job that it brought.
    pub(super) fn answered(&mut self, answer: Answer) -> Option<(JobKey, Claim)> {
        self.in_flight -= 1;
        match answer {
            Answer::Job(job, claim) => {
                self.claimed += 1;
                self.wave = (self.wave * 2).min(LARGEST_WAVE);
                return Some((job, claim));
            }
            Answer::Unstored => self.closed = true,
            Answer::Nothing => (self.closed, self.empty) = (true, true),
            Answer::AskAgain => (self.closed, self.ask_again) = (true, true),
        }
        None
    }

    /// Whether it found nothing at all.
    pub(super) fn was_empty(&self) -> bool {
        self.claimed == 0 && (self.empty || self.ask_again)
    }

    /// When to poll again, and as which try.
    pub(super) fn next_try(&self) -> Option<(u64, u8)> {
        if !(self.ask_again || self.empty && self.claimed == 0) {
            return None;
        }
        let step = if self.claimed == 0 { self.in_vain } else { 0 };
        AGAIN_AFTER_SECONDS.get(usize::from(step)).map(|seconds| (*seconds, step + 1))
    }
}

impl Dispatcher {
    /// One claim. Its bytes are in the ledger when this returns: nothing else is begun before.
    pub(super) async fn claim(&self, runner: &Runner, client: &RunnerClient) -> Answer {
        match client.claim().await {
            Ok(Claimed::Job(body)) => self.keep(runner, body).await.unwrap_or(Answer::Unstored),
            Ok(Claimed::Nothing) => Answer::Nothing,
            Ok(Claimed::AskAgain) => Answer::AskAgain,
            Err(error) => {
                error!(runner.name = %runner.name, error = %error, "runner `{}`: {error}", runner.name);
                let later = matches!(error, RunnerError::Unavailable(_) | RunnerError::Transport(_));
                if later { Answer::AskAgain } else { Answer::Nothing }
            }
        }
    }

    /// A job is ours. Its bytes go to the ledger before anything is asked of them or of another server.
    async fn keep(&self, runner: &Runner, body: Bytes) -> Option<Answer> {
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
                    self.report_at_once(runner, &identity, &outcome).await;
                    return None;
                }
            }
        }
        info!(job.id = job.id, runner.name = %runner.name, "claimed job {}", job.id);
        Some(Answer::Job(job, Claim { body, facts }))
    }

    /// How long until `at`, for a message to the queue, which counts in whole seconds.
    pub(super) fn delay_until(&self, at: Timestamp) -> Duration {
        let delay = Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        // A GitLab of our own is asked more often than once a second; so its queue counts finer.
        let unit = self.poll_spacing.as_secs_f64().clamp(0.001, 1.0);
        Duration::from_secs_f64((delay.as_secs_f64() / unit).ceil() * unit)
    }

    /// A client for `runner`; `None`, and a line in the log, if it has no token.
    pub(super) fn runner_client(&self, runner: &Runner) -> Result<Option<RunnerClient>, DispatchError> {
        let secrets = self.secrets.get();
        let name = &runner.name;
        let Some(token) = secrets.runner_tokens.get(name) else {
            error!(runner.name = %name, "runner `{name}` has no token: put it into the stack's secret of runner tokens");
            return Ok(None);
        };
        let system = SystemInfo { system_id: self.fleet.system_id.clone() };
        Ok(Some(RunnerClient::new(&runner.url, token.clone(), system, runner.tls_ca.as_deref())?))
    }
}

impl<'a> Work<'a> {
    /// Begins the polls that are wanted, as far as their pace allows.
    pub(super) fn start_polls(&mut self) {
        let now = self.dispatcher.now();
        // A poll that runs may have asked before the wish: it is followed by another.
        let begin = self.wanted_polls.keys().filter(|runner| !self.polls.contains_key(*runner));
        for name in begin.cloned().collect::<Vec<_>>() {
            let Some(wanted) = self.wanted_polls.remove(&name) else { continue };
            let Some(runner) = self.dispatcher.fleet.runner(&name) else { continue };
            if !self.lock.may_claim(now) {
                self.lock.with(|lease| lease.unfinished.insert(name));
                continue;
            }
            let spacing = self.dispatcher.poll_spacing;
            match self.lock.with(|lease| lease.poll_pace(&name).start(spacing, now)) {
                PollStart::Now => match self.dispatcher.runner_client(runner) {
                    Ok(Some(client)) => drop(self.polls.insert(name, Poll::new(client, wanted.in_vain))),
                    Ok(None) => {}
                    Err(error) => error!(runner.name = %name, error = %error, "runner `{name}` cannot be polled"),
                },
                PollStart::OnItsWay => {}
                PollStart::At(at) => {
                    let event = Event::Poll { runner: name, in_vain: wanted.in_vain };
                    self.outgoing.push(Later::after(event, self.dispatcher.delay_until(at)));
                }
            }
        }
    }

    /// Begins as many claims as can be launched.
    pub(super) fn start_claims(&mut self) {
        let now = self.dispatcher.now();
        for name in self.polls.keys().cloned().collect::<Vec<_>>() {
            let Some(runner) = self.dispatcher.fleet.runner(&name) else { continue };
            if self.polls.get(&name).is_some_and(|poll| !poll.closed && poll.in_flight == 0) {
                self.start_wave(runner, now);
            }
            if self.polls.get(&name).is_some_and(|poll| poll.closed && poll.in_flight == 0) {
                self.end_poll(&name);
            }
        }
    }

    fn start_wave(&mut self, runner: &'a Runner, now: Timestamp) {
        let dispatcher = self.dispatcher;
        let quota = dispatcher.launch_quota();
        let unlaunched = self.unlaunched(runner);
        let (room, per_second, is_held) = self.lock.with(|lease| {
            let live = lease.live_jobs(&runner.name).unwrap_or_default();
            let room = runner.limit.map_or(usize::MAX, |limit| (limit as usize).saturating_sub(live));
            (room, lease.rate.per_second(quota), !lease.holds.is_empty())
        });
        let may_claim = self.lock.may_claim(now);
        let Some(poll) = self.polls.get_mut(&runner.name) else { return };
        if !may_claim {
            poll.closed = true;
            self.lock.with(|lease| lease.unfinished.insert(runner.name.clone()));
        } else if room == 0 && !poll.counted {
            poll.counted = true;
            // No claim while it counts: what is claimed meanwhile would not be listed.
            poll.in_flight += 1;
            let known = self.lock.with(|lease| lease.known_live(&runner.name));
            self.steps.push(count(dispatcher, runner, known).boxed());
        } else if room == 0 {
            poll.closed = true;
            self.lock.with(|lease| lease.full.insert(runner.name.clone()));
        } else {
            let claims = self.window.claims(poll.wave, poll.claimed == 0, unlaunched, room, per_second, is_held);
            poll.in_flight += claims;
            for _ in 0..claims {
                let client = poll.client.clone();
                let step = async move {
                    Step::Claimed { runner: runner.name.clone(), answer: dispatcher.claim(runner, &client).await }
                };
                self.steps.push(step.boxed());
            }
        }
    }

    fn unlaunched(&self, runner: &Runner) -> Unlaunched {
        let host = JobKey::new(&runner.url, 0).host;
        let is_same = |name: &str| self.dispatcher.fleet.runner(name).is_some_and(|other| other.url == runner.url);
        let preparing = self.preparing.iter().filter(|job| job.host == host).count();
        let polls = self.polls.iter().filter(|(name, _)| is_same(name));
        let asked: usize = polls.map(|(_, poll)| poll.in_flight).sum();
        let ready = self
            .lock
            .with(|lease| lease.waiting.iter().filter(|waiting| !self.preparing.contains(&waiting.job)).count());
        Unlaunched { ready, under_way: preparing + asked }
    }

    /// One claim was answered.
    pub(super) fn claimed(&mut self, runner: &str, answer: Answer) {
        let Some(poll) = self.polls.get_mut(runner) else { return };
        let Some((job, claim)) = poll.answered(answer) else { return };
        let limited = self.dispatcher.fleet.runner(runner).is_some_and(|runner| runner.limit.is_some());
        self.lock.with(|lease| {
            lease.claimed(runner, &job, limited);
            lease.full.remove(runner);
            lease.waiting.add(WaitingJob::claimed(job.clone(), claim.facts.at));
        });
        self.is_fruitful = true;
        self.prepare(job, Some(claim));
    }

    /// The jobs of a runner were counted again.
    pub(super) fn counted(&mut self, runner: &str, ended: Result<BTreeSet<JobKey>, DispatchError>) {
        if let Some(poll) = self.polls.get_mut(runner) {
            poll.in_flight -= 1;
        }
        match ended {
            Ok(ended) => self.lock.with(|lease| lease.ended(runner, &ended)),
            Err(error) => warn!(runner.name = %runner, error = %error, "the jobs of `{runner}` cannot be counted"),
        }
    }

    fn end_poll(&mut self, name: &str) {
        let Some(poll) = self.polls.remove(name) else { return };
        info!(runner.name = %name, claimed = poll.claimed, "polled runner `{name}`: {} jobs", poll.claimed);
        if poll.was_empty() {
            self.lock.with(|lease| lease.poll_pace(name).was_empty());
        }
        if let Some((seconds, in_vain)) = poll.next_try() {
            let now = self.dispatcher.now();
            if self.lock.with(|lease| lease.poll_pace(name).expect(now + Duration::from_secs(seconds), now)) {
                self.outgoing.push(Later::new(Event::Poll { runner: name.to_owned(), in_vain }, seconds));
            }
        }
    }
}

/// The jobs of `known` that have ended.
async fn count(dispatcher: &Dispatcher, runner: &Runner, known: BTreeSet<JobKey>) -> Step {
    let ended = dispatcher.ledger.live_jobs().await.map_err(DispatchError::from).map(|live| {
        let live: BTreeSet<JobKey> = live.into_iter().collect();
        known.difference(&live).cloned().collect()
    });
    Step::Counted { runner: runner.name.clone(), ended }
}
