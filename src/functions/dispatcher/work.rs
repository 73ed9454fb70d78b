//! The work of one holder of the lease: polls runners and launches their jobs, as fast as AWS launches tasks.
//!
//! One loop for all of it. Whatever waits for an answer is a [`Step`] in flight; between two steps the loop decides, from
//! what is in memory, which claims and launches begin next. It ends when nothing is in flight and nothing may begin soon:
//! a message to the queue resumes it then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use crate::functions::Later;
use crate::ledger::{Class, JobKey, WaitingJob, Wish};

use super::admission::Window;
use super::claiming::{Answer, Poll};
use super::error::DispatchError;
use super::launching::Launch;
use super::lease_lock::LeaseLock;
use super::planning::{Draft, Prepared};
use super::wants::{FROM_TICK, WantedPoll, Wants};
use super::{Batch, Dispatcher};

/// Wishes of other invocations are looked for so often.
const WISHES_EVERY: Duration = Duration::from_secs(1);
/// A longer pause ends the invocation's work.
pub(super) const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// Something that was waited for.
pub(super) enum Step {
    Claimed { runner: String, answer: Answer },
    Counted { runner: String, ended: Result<BTreeSet<JobKey>, DispatchError> },
    Prepared { job: JobKey, prepared: Result<Prepared, DispatchError> },
    PutAside { job: JobKey },
    Launched { job: JobKey, class: Class, cpu_units: u32, launch: Result<Launch, DispatchError> },
    NeverFits { job: JobKey, ended: Result<bool, DispatchError> },
}

/// The work of one holder.
pub(super) struct Work<'a> {
    pub(super) dispatcher: &'a Dispatcher,
    pub(super) lock: &'a LeaseLock<'a>,
    pub(super) steps: FuturesUnordered<BoxFuture<'a, Step>>,
    pub(super) wanted_polls: BTreeMap<String, WantedPoll>,
    pub(super) polls: BTreeMap<String, Poll>,
    /// Jobs with a step in flight.
    pub(super) busy: BTreeSet<JobKey>,
    /// Those of them that are being planned.
    pub(super) preparing: BTreeSet<JobKey>,
    /// Class and size of the launches in flight.
    pub(super) launching: Vec<(Class, u32)>,
    /// Jobs that are planned and whose record is not written yet, or was just read.
    pub(super) drafts: BTreeMap<JobKey, Box<Draft>>,
    pub(super) window: Window,
    /// Messages to send before the next step.
    pub(super) outgoing: Vec<Later>,
    batch: &'a Batch<'a>,
    /// Keys of the wishes that were read here.
    wishes: BTreeSet<String>,
    /// When a job that waits may be launched.
    next_launch: Option<Timestamp>,
    /// A job was claimed or launched: what follows is no longer a chain that leads to nothing.
    pub(super) is_fruitful: bool,
}

impl<'a> Work<'a> {
    /// The work of the holder of `lock`, who has left `wishes` before he took it.
    pub(super) fn new(
        dispatcher: &'a Dispatcher,
        lock: &'a LeaseLock<'a>,
        batch: &'a Batch<'a>,
        wishes: Vec<String>,
    ) -> Work<'a> {
        Work {
            dispatcher,
            lock,
            steps: FuturesUnordered::new(),
            wanted_polls: BTreeMap::new(),
            polls: BTreeMap::new(),
            busy: BTreeSet::new(),
            preparing: BTreeSet::new(),
            launching: Vec::new(),
            drafts: BTreeMap::new(),
            window: Window::new(),
            outgoing: Vec::new(),
            batch,
            wishes: wishes.into_iter().collect(),
            next_launch: None,
            is_fruitful: false,
        }
    }

    /// Works until nothing is left that may begin soon.
    pub(super) async fn run(
        &mut self,
        wants: Wants,
        wanted: &mut UnboundedReceiver<Wants>,
    ) -> Result<(), DispatchError> {
        if wants.all {
            self.forget_ended().await?;
        }
        for runner in self.lock.with(|lease| std::mem::take(&mut lease.unfinished)) {
            self.wanted_polls.insert(runner, WantedPoll { in_vain: FROM_TICK, job: None });
        }
        self.want(wants);
        let mut wishes = self.look_for_wishes();
        let mut others_may_want = true;
        loop {
            self.start_polls();
            self.start_claims();
            self.next_launch = self.start_launches();
            self.send().await;
            let now = self.dispatcher.now();
            let soon = self.next_launch.filter(|at| *at <= now + LONGEST_PAUSE);
            if self.steps.is_empty() && soon.is_none() {
                return Ok(());
            }
            let pause = soon.map_or(WISHES_EVERY, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            tokio::select! {
                biased;
                Some(step) = self.steps.next() => self.done(step),
                more = wanted.recv(), if others_may_want => match more {
                    Some(more) => self.want(more),
                    None => others_may_want = false,
                },
                found = &mut wishes => {
                    self.add_wishes(found);
                    wishes = self.look_for_wishes();
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The wishes that were fulfilled, and when the work must go on if some is left.
    pub(super) fn finish(mut self) -> (BTreeSet<String>, Option<Timestamp>) {
        let open = std::mem::take(&mut self.polls).into_keys();
        let open = open.chain(std::mem::take(&mut self.wanted_polls).into_keys());
        let is_unfinished = self.lock.with(|lease| {
            lease.unfinished.extend(open);
            !lease.unfinished.is_empty() || !lease.waiting.is_empty()
        });
        let next = is_unfinished.then(|| self.next_launch.unwrap_or_else(|| self.dispatcher.now()));
        (self.wishes, next)
    }

    fn look_for_wishes(&self) -> BoxFuture<'a, Vec<(String, Wish)>> {
        let dispatcher = self.dispatcher;
        async move {
            tokio::time::sleep(WISHES_EVERY).await;
            let wishes = dispatcher.ledger.wishes().await;
            wishes.inspect_err(|error| warn!(error = %error, "wishes cannot be read this time")).unwrap_or_default()
        }
        .boxed()
    }

    fn add_wishes(&mut self, found: Vec<(String, Wish)>) {
        let mut wants = Wants::default();
        for (key, wish) in found {
            if self.wishes.insert(key) {
                wants.add_wish(wish);
            }
        }
        self.want(wants);
    }

    fn want(&mut self, wants: Wants) {
        let now = self.dispatcher.now();
        let fleet = &self.dispatcher.fleet;
        let of_tick = wants.polls_of_tick(fleet.runners.iter().map(|runner| runner.name.clone()));
        for (name, poll) in of_tick.into_iter().chain(wants.polls) {
            let named = poll.job.zip(fleet.runner(&name)).map(|(job, runner)| JobKey::new(&runner.url, job));
            if named.is_some_and(|job| self.lock.with(|lease| lease.is_recent(&job))) {
                continue;
            }
            let known = self.wanted_polls.entry(name).or_insert(poll);
            known.in_vain = known.in_vain.min(poll.in_vain);
        }
        if wants.room {
            self.window.room_again();
            self.lock.with(|lease| lease.holds.lift(now));
        }
        for job in wants.launch {
            self.lock.with(|lease| lease.waiting.add(WaitingJob::claimed(job, now)));
        }
    }

    /// Jobs that have ended while they waited no longer count.
    async fn forget_ended(&mut self) -> Result<(), DispatchError> {
        let waiting = self.lock.with(|lease| lease.waiting.jobs());
        if waiting.is_empty() {
            return Ok(());
        }
        let live: BTreeSet<JobKey> = self.dispatcher.ledger.live_jobs().await?.into_iter().collect();
        let ended = waiting.difference(&live);
        self.lock.with(|lease| ended.for_each(|job| lease.waiting.remove(job)));
        Ok(())
    }

    async fn send(&mut self) {
        for mut later in std::mem::take(&mut self.outgoing) {
            later.begins_chain |= self.is_fruitful;
            self.batch.follow_ups.send(later, self.batch.hops).await;
        }
    }

    fn done(&mut self, step: Step) {
        match step {
            Step::Claimed { runner, answer } => self.claimed(&runner, answer),
            Step::Counted { runner, ended } => self.counted(&runner, ended),
            Step::Prepared { job, prepared } => self.prepared(job, prepared),
            Step::PutAside { job } => {
                self.busy.remove(&job);
            }
            Step::Launched { job, class, cpu_units, launch } => self.launched(job, class, cpu_units, launch),
            Step::NeverFits { job, ended } => self.checked_fit(&job, ended),
        }
    }
}
