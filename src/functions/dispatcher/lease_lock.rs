//! Takes, renews and releases the lease.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::gitlab::Backoff;
use crate::ledger::{LEASE_LASTS, Lease, LedgerError, Stored, Taken};

use super::Dispatcher;

/// The lease lasts 30 s.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// No claim is made with less time left: it may wait 120 s for its answer.
const CLAIM_TAKES: SignedDuration = SignedDuration::from_secs(150);
/// No task is launched with less time left.
const LAUNCH_TAKES: SignedDuration = SignedDuration::from_secs(45);
/// No claim is made if the lease could expire so soon: its next holder would not count the job.
const FENCE: SignedDuration = SignedDuration::from_secs(5);
/// Tries to take a lease that others take at the same moment.
const TRIES: u32 = 12;

/// The lease in the hands of one invocation.
pub(super) struct LeaseLock<'a> {
    dispatcher: &'a Dispatcher,
    lease: Mutex<Lease>,
    stored: tokio::sync::Mutex<Stored<Lease>>,
    lost: AtomicBool,
    /// In milliseconds.
    valid_until: AtomicI64,
    deadline: Timestamp,
}

/// What came of an attempt to take the lease.
pub(super) enum Lock<'a> {
    /// It is ours; the last holder died with what it had not written.
    Orphaned(LeaseLock<'a>),
    /// It is ours, and it says all.
    Clean(LeaseLock<'a>),
    /// Another invocation holds it.
    Held,
    /// It is free, and what was wanted is done.
    NotNeeded,
}

impl<'a> LeaseLock<'a> {
    /// Takes the lease if it is free and what it says does not meet what is wanted.
    pub(super) async fn take(
        dispatcher: &'a Dispatcher,
        deadline: Timestamp,
        is_met: impl Fn(&Lease) -> bool,
    ) -> Result<Lock<'a>, LedgerError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut backoff = Backoff::new(TRIES, Duration::from_millis(10), Duration::from_millis(200));
        loop {
            let stored = dispatcher.ledger.lease().await?;
            let mut lease = stored.as_ref().map(|stored| stored.value.clone()).unwrap_or_default();
            let now = dispatcher.now();
            let taken = lease.take(&id, now);
            if taken == Taken::Held {
                return Ok(Lock::Held);
            }
            if is_met(&lease) {
                return Ok(Lock::NotNeeded);
            }
            let limits = dispatcher.fleet.runners.iter().map(|runner| (runner.name.clone(), runner.limit.is_some()));
            lease.keep_runners(&limits.collect());
            if let Some(stored) = dispatcher.ledger.write_lease(stored.as_ref(), lease).await? {
                let lock = LeaseLock {
                    dispatcher,
                    lease: Mutex::new(stored.value.clone()),
                    stored: tokio::sync::Mutex::new(stored),
                    lost: AtomicBool::new(false),
                    valid_until: AtomicI64::new((now + LEASE_LASTS).as_millisecond()),
                    deadline,
                };
                return Ok(if taken == Taken::Expired { Lock::Orphaned(lock) } else { Lock::Clean(lock) });
            }
            // Another one was faster: most likely it holds the lease now.
            match backoff.pause(None) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(Lock::Held),
            }
        }
    }

    /// Reads or changes the state that passes to the next holder.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Lease) -> T) -> T {
        change(&mut self.lease.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether another claim may be made.
    pub(super) fn may_claim(&self, now: Timestamp) -> bool {
        let is_ours = !self.lost.load(Ordering::SeqCst)
            && (now + FENCE).as_millisecond() < self.valid_until.load(Ordering::SeqCst);
        is_ours && now + CLAIM_TAKES < self.deadline
    }

    /// Whether another task may be launched.
    pub(super) fn may_launch(&self, now: Timestamp) -> bool {
        !self.lost.load(Ordering::SeqCst) && now + LAUNCH_TAKES < self.deadline
    }

    /// Keeps the lease for as long as the work beside it lasts.
    pub(super) async fn renew(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            if let Err(error) = self.write(|lease, now| lease.extend(now)).await {
                warn!(error = %error, "the lease could not be renewed this time");
            }
        }
    }

    /// Lets the next invocation take the lease at once.
    pub(super) async fn release(&self) -> Result<(), LedgerError> {
        self.write(|lease, _| lease.release()).await
    }

    async fn write(&self, change: impl FnOnce(&mut Lease, Timestamp)) -> Result<(), LedgerError> {
        let mut stored = self.stored.lock().await;
        if self.lost.load(Ordering::SeqCst) {
            return Ok(());
        }
        let now = self.dispatcher.now();
        let mut lease = self.with(|lease| lease.clone());
        // Who holds it, and until when, stands in what was written last.
        change(&mut lease, now);
        match self.dispatcher.ledger.write_lease(Some(&stored), lease).await? {
            Some(written) => {
                *stored = written;
                self.valid_until.store((now + LEASE_LASTS).as_millisecond(), Ordering::SeqCst);
            }
            None => {
                warn!("another invocation has taken the lease; this one claims and launches nothing any more");
                self.lost.store(true, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}
