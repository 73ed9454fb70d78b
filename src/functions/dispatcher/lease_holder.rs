//! Runs what only the holder of the lease may do, or leaves it to the invocation that holds the lease.

use futures::future::join_all;
use futures::{StreamExt, stream};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{error, warn};

use crate::functions::{Event, Later};
use crate::ledger::{ClaimFacts, JobKey, Lease, LedgerError, Record, Stored, Waiting, WaitingJob, Wish};

use super::error::DispatchError;
use super::lease_lock::{LeaseLock, Lock};
use super::reconcile_step::needs_launch;
use super::wants::Wants;
use super::work::Work;
use super::{Batch, Dispatcher};

/// Records that are read at one time after a holder has died.
const READS_AT_ONCE: usize = 64;
/// The lease is not taken again with less time left.
const WORK_TAKES: SignedDuration = SignedDuration::from_secs(60);

/// What the ledger has of a live job.
enum Known {
    Record(Box<Stored<Record>>),
    Claim(ClaimFacts),
    Gone,
}

impl Dispatcher {
    /// Does what is wanted under the lease, or leaves it to the invocation that has the lease.
    pub(super) async fn with_lease(
        &self,
        mut wants: Wants,
        wanted: &mut UnboundedReceiver<Wants>,
        batch: &Batch<'_>,
    ) -> Result<(), DispatchError> {
        // Wishes in the ledger that say the same as `wants`.
        let mut left: Vec<String> = Vec::new();
        loop {
            let (lock, is_orphaned) =
                match LeaseLock::take(self, batch.deadline, |lease| self.meets(&wants, lease)).await? {
                    Lock::Clean(lock) => (lock, false),
                    Lock::Orphaned(lock) => (lock, true),
                    Lock::NotNeeded => {
                        let deleted = join_all(left.iter().map(|key| self.ledger.fulfilled(key))).await;
                        return Ok(deleted.into_iter().collect::<Result<(), LedgerError>>()?);
                    }
                    Lock::Held if !left.is_empty() || wants.wishes().is_empty() => return Ok(()),
                    Lock::Held => {
                        let wishes = wants.wishes();
                        let written = join_all(wishes.iter().map(|wish| self.ledger.wish(wish))).await;
                        left = written.into_iter().collect::<Result<_, _>>()?;
                        // The holder may have looked for wishes for the last time before these were there.
                        continue;
                    }
                };
            let listing = wants.listing.take();
            let mut work = Work::new(self, &lock, batch, std::mem::take(&mut left));
            let worked = async {
                if is_orphaned || self.has_uncounted_runners(&lock) {
                    self.recover(&lock).await?;
                }
                work.run(wants, wanted).await
            };
            // Renewing ends with the work; the work is never cut, for a claim may be on its way.
            let worked = tokio::select! {
                biased;
                worked = worked => worked,
                never = lock.renew() => match never {},
            };
            let (fulfilled, next) = work.finish();
            if let Some(at) = next {
                self.wake_at(&lock, at, batch).await;
            }
            // Also after an error: nobody should have to wait until the lease expires.
            lock.release().await?;
            worked?;
            left.clear();
            let deleted = join_all(fulfilled.iter().map(|key| self.ledger.fulfilled(key))).await;
            deleted.into_iter().collect::<Result<(), LedgerError>>()?;
            let found = match listing {
                Some(listing) => {
                    let found = self.ledger.live_jobs_and_wishes().await?;
                    // The tick may have stopped waiting for it.
                    let _ = listing.send(found.jobs);
                    found.wishes
                }
                None => self.ledger.wishes().await?,
            };
            wants = Wants::default();
            for (key, wish) in found.into_iter().filter(|(key, _)| !fulfilled.contains(key)) {
                if self.is_met(&wish, &lock) {
                    self.ledger.fulfilled(&key).await?;
                } else {
                    wants.add_wish(wish);
                    left.push(key);
                }
            }
            if wants.is_empty() || self.now() + WORK_TAKES >= batch.deadline {
                return Ok(());
            }
        }
    }

    /// Whether all that is wanted are polls for jobs that were just claimed.
    fn meets(&self, wants: &Wants, lease: &Lease) -> bool {
        let wishes = wants.wishes();
        let is_met = |wish: &Wish| match wish {
            Wish::Poll { runner, job: Some(job), .. } => {
                let job = self.fleet.runner(runner).map(|runner| JobKey::new(&runner.url, *job));
                job.is_some_and(|job| lease.is_recent(&job))
            }
            _ => false,
        };
        !wants.wake && wants.listing.is_none() && !wishes.is_empty() && wishes.iter().all(is_met)
    }

    /// Whether a wish is for a job that was just claimed.
    fn is_met(&self, wish: &Wish, lock: &LeaseLock<'_>) -> bool {
        let mut wants = Wants::default();
        wants.add_wish(wish.clone());
        lock.with(|lease| self.meets(&wants, lease))
    }

    /// Sends the message that resumes the work, unless one is on its way that comes no later.
    async fn wake_at(&self, lock: &LeaseLock<'_>, at: jiff::Timestamp, batch: &Batch<'_>) {
        let now = self.now();
        let is_new = lock.with(|lease| {
            let is_on_its_way = lease.wake_at.is_some_and(|wake| wake > now && wake <= at);
            if !is_on_its_way {
                lease.wake_at = Some(at);
            }
            !is_on_its_way
        });
        if is_new {
            batch.follow_ups.send(Later::after(Event::Wake, self.delay_until(at)), batch.hops).await;
        }
    }

    /// Whether a runner has got its limit since its jobs were counted.
    fn has_uncounted_runners(&self, lock: &LeaseLock<'_>) -> bool {
        let limited = self.fleet.runners.iter().filter(|runner| runner.limit.is_some());
        lock.with(|lease| limited.into_iter().any(|runner| lease.live_jobs(&runner.name).is_none()))
    }

    /// Reads from the ledger what the last holder did not write: the jobs without a task, and the jobs of runners with a
    /// limit.
    async fn recover(&self, lock: &LeaseLock<'_>) -> Result<(), DispatchError> {
        let jobs = self.ledger.live_jobs().await?;
        let read = |job: JobKey| async move {
            let known = match self.ledger.record(&job).await {
                Ok(Some(stored)) => Ok(Known::Record(Box::new(stored))),
                Ok(None) => self.ledger.claim_facts(&job).await.map(|facts| facts.map_or(Known::Gone, Known::Claim)),
                Err(error) => Err(error),
            };
            (job, known)
        };
        let mut counts: BTreeMap<String, BTreeSet<JobKey>> = BTreeMap::new();
        let limited = self.fleet.runners.iter().filter(|runner| runner.limit.is_some());
        counts.extend(limited.map(|runner| (runner.name.clone(), BTreeSet::new())));
        let mut waiting = Waiting::default();
        let mut known = stream::iter(jobs).map(read).buffer_unordered(READS_AT_ONCE);
        while let Some((job, known)) = known.next().await {
            let (runner, claimed_at, waits) = match known {
                Ok(Known::Record(stored)) => {
                    let record = stored.value;
                    (record.runner.clone(), record.claimed_at, needs_launch(&record))
                }
                Ok(Known::Claim(facts)) => (facts.runner, facts.at, true),
                Ok(Known::Gone) => continue,
                Err(error) => {
                    error!(alarm = "ledger", job.id = job.id, error = %error, "job {} cannot be read", job.id);
                    continue;
                }
            };
            if let Some(count) = counts.get_mut(&runner) {
                count.insert(job.clone());
            }
            if waits {
                waiting.add(WaitingJob::claimed(job, claimed_at));
            }
        }
        warn!(waiting = waiting.len(), "read {} jobs without a task from the ledger", waiting.len());
        lock.with(|lease| {
            counts.into_iter().for_each(|(runner, jobs)| lease.count(&runner, jobs));
            lease.waiting = waiting;
        });
        Ok(())
    }
}
