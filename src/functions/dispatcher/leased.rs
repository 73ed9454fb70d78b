//! Works under the lease: one invocation in the deployment claims and launches, the others leave it their marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{error, warn};

use crate::functions::{Event, Later};
use crate::ledger::Taken;

use super::error::DispatchError;
use super::{Dispatcher, Wanted};

/// A mark that is attended to: its name, and what came of it.
type Attended<'a> = BoxFuture<'a, (String, Result<Vec<Later>, DispatchError>)>;

/// What the lease's marks name: runners, and how often each was looked at in vain.
type Marks = BTreeMap<String, u8>;

/// The mark that stands for all live jobs; no runner can be called so, for names are trimmed.
pub(super) const ALL_JOBS: &str = " all jobs";
/// The lease lasts 30 s.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// No waiting job is begun with less time left.
const DRIVE_TAKES: SignedDuration = SignedDuration::from_secs(60);
/// No claim is made with less time left: it may wait 120 s for its answer.
const CLAIM_TAKES: SignedDuration = SignedDuration::from_secs(150);

/// The lease, as its holder sees it.
pub(super) struct Held {
    pub(super) holder: String,
    lost: AtomicBool,
    deadline: Timestamp,
}

impl Held {
    /// Whether another claim may be made.
    pub(super) fn may_claim(&self, now: Timestamp) -> bool {
        !self.lost.load(Ordering::SeqCst) && now + CLAIM_TAKES < self.deadline
    }
}

impl Dispatcher {
    /// Does what is wanted under the lease, or leaves it to who has the lease.
    pub(super) async fn with_lease(&self, wanted: Wanted, deadline: Timestamp) -> Result<Vec<Later>, DispatchError> {
        let holder = uuid::Uuid::new_v4().to_string();
        let now = self.now();
        let taken = self.ledger.change_lease(|lease| lease.take(&holder, &wanted.looks, now)).await?;
        if taken == Taken::Marked {
            // Marks name runners; single jobs come again by themselves, and are the tick's in the end.
            return Ok(wanted.drive.into_iter().map(|job| Later::new(Event::Drive { job }, 2)).collect());
        }
        let held = Held { holder, lost: AtomicBool::new(false), deadline };
        let (marks, marked) = unbounded_channel();
        // Renewing ends with the work; the work is never cut, for a claim may be on its way.
        tokio::select! {
            biased;
            later = self.work(&held, wanted, marked) => later,
            never = self.renew(&held, marks) => match never {},
        }
    }

    /// Keeps the lease, and passes on what others have marked meanwhile.
    async fn renew(&self, held: &Held, marked: UnboundedSender<Marks>) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            let now = self.now();
            let renewed = self.ledger.change_lease(|lease| {
                let ours = lease.renew(&held.holder, now);
                (ours, if ours { lease.take_marks() } else { Marks::new() })
            });
            match renewed.await {
                Ok((true, marks)) => {
                    let _ = marked.send(marks);
                }
                Ok((false, _)) => held.lost.store(true, Ordering::SeqCst),
                Err(error) => warn!(error = %error, "the lease could not be renewed this time"),
            }
        }
    }

    /// Looks at all that is marked, several runners at a time, until no mark is left; then lets go.
    async fn work(
        &self,
        held: &Held,
        wanted: Wanted,
        mut marked: UnboundedReceiver<Marks>,
    ) -> Result<Vec<Later>, DispatchError> {
        let mut later = self.drive(&wanted.drive).await;
        let mut under_way: FuturesUnordered<Attended<'_>> = FuturesUnordered::new();
        let (mut waiting, mut busy, mut failed) = (Marks::new(), BTreeSet::new(), None);
        loop {
            // Reads the marks and lets go in one swap: nobody can leave a mark between the two.
            let idle = under_way.is_empty() && waiting.is_empty();
            let marks = self.ledger.change_lease(|lease| {
                if idle && !lease.has_marks() {
                    lease.release(&held.holder);
                }
                lease.take_marks()
            });
            match marks.await {
                Ok(marks) if marks.is_empty() && idle => break,
                Ok(marks) => add(&mut waiting, marks),
                Err(error) if idle => return Err(error.into()),
                Err(error) => failed = Some(error.into()),
            }
            if held.may_claim(self.now()) {
                let (begin, rest): (Marks, Marks) = waiting.into_iter().partition(|(name, _)| !busy.contains(name));
                waiting = rest;
                for (name, in_vain) in begin {
                    busy.insert(name.clone());
                    under_way.push(Box::pin(async move { (name.clone(), self.attend(held, &name, in_vain).await) }));
                }
            } else if under_way.is_empty() {
                self.ledger.change_lease(|lease| lease.release(&held.holder)).await?;
                later.extend(waiting.into_iter().map(|(name, in_vain)| Later::new(again(name, in_vain), 0)));
                break;
            }
            tokio::select! {
                Some((name, result)) = under_way.next() => {
                    busy.remove(&name);
                    match result {
                        Ok(next) => later.extend(next),
                        Err(error) => {
                            error!(error = %error, "the work on `{name}` is not done, and comes again");
                            failed = Some(error);
                        }
                    }
                }
                Some(marks) = marked.recv() => add(&mut waiting, marks),
                else => {}
            }
        }
        failed.map_or(Ok(later), Err)
    }

    /// Does what one mark asks for.
    async fn attend(&self, held: &Held, name: &str, in_vain: u8) -> Result<Vec<Later>, DispatchError> {
        if name == ALL_JOBS {
            self.drive_all(held.deadline - DRIVE_TAKES).await?;
            return Ok(Vec::new());
        }
        match self.fleet.runner(name) {
            Some(runner) => self.look(held, runner, in_vain).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Of two wishes for one runner the fresher counts.
fn add(waiting: &mut Marks, marks: Marks) {
    for (name, in_vain) in marks {
        let known = waiting.entry(name).or_insert(in_vain);
        *known = (*known).min(in_vain);
    }
}

/// The message that stands for a mark which nobody has time for.
fn again(name: String, in_vain: u8) -> Event {
    if name == ALL_JOBS { Event::Tick } else { Event::Look { runner: name, in_vain } }
}
