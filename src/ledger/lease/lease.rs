//! The lease object as it is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ledger::JobKey;

use super::{Holds, LaunchRate, PollPace, Waiting};

/// Who may claim and launch, and the state that passes from one holder to the next.
///
/// A holder changes its copy in memory and writes it when it renews or releases the lease. A holder that dies takes its
/// last changes with it: whoever takes an expired lease reads them from the ledger again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    holder: Option<String>,
    expires: Timestamp,
    /// Chosen anew for each write: two writers with equal content are still two.
    written_by: String,
    polls: BTreeMap<String, PollPace>,
    /// How fast tasks are launched.
    pub rate: LaunchRate,
    /// Where capacity was refused.
    pub holds: Holds,
    /// Jobs without a task.
    pub waiting: Waiting,
    /// Runners whose jobs were not all claimed, because not more could be launched.
    pub unfinished: BTreeSet<String>,
    /// A message that resumes the work is on its way and comes then.
    pub wake_at: Option<Timestamp>,
    /// Runners that had as many jobs as their limit allows.
    pub full: BTreeSet<String>,
    /// The live jobs of each runner with a limit. Jobs that have ended meanwhile may be among them; none is missing.
    live: BTreeMap<String, BTreeSet<JobKey>>,
    /// Jobs claimed of late: a hook that names one of them needs no poll.
    recent: VecDeque<JobKey>,
}

/// What came of an attempt to take the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was free.
    Ours,
    /// Its last holder died: what that one knew must be read from the ledger.
    Expired,
    /// Another holds it.
    Held,
}

/// How long the lease lasts without renewal.
pub const LEASE_LASTS: SignedDuration = SignedDuration::from_secs(30);
/// How many claimed jobs are remembered.
const RECENT: usize = 200;

impl Lease {
    /// Marks this state as written by `writer`.
    pub fn sign(&mut self, writer: String) {
        self.written_by = writer;
    }

    /// Whether somebody holds it now.
    pub fn is_held(&self, now: Timestamp) -> bool {
        // An expiry far ahead was written by a clock that has jumped since.
        self.holder.is_some() && self.expires > now && self.expires <= now + LEASE_LASTS * 2
    }

    /// Takes it for `holder`, unless another holds it.
    pub fn take(&mut self, holder: &str, now: Timestamp) -> Taken {
        if self.is_held(now) {
            return Taken::Held;
        }
        let taken = if self.holder.is_some() { Taken::Expired } else { Taken::Ours };
        self.holder = Some(holder.to_owned());
        self.extend(now);
        taken
    }

    /// Lets it last from `now` on.
    pub fn extend(&mut self, now: Timestamp) {
        self.expires = now + LEASE_LASTS;
    }

    /// Lets the next one take it without waiting.
    pub fn release(&mut self) {
        self.holder = None;
        self.expires = Timestamp::UNIX_EPOCH;
    }

    /// The polls of `runner`.
    pub fn poll_pace(&mut self, runner: &str) -> &mut PollPace {
        self.polls.entry(runner.to_owned()).or_default()
    }

    /// Whether jobs wait for capacity.
    pub fn waits_for_room(&self) -> bool {
        !self.waiting.is_empty() || !self.holds.is_empty() || !self.unfinished.is_empty()
    }

    /// Notes a claimed job; `limited` if its runner has a limit.
    pub fn claimed(&mut self, runner: &str, job: &JobKey, limited: bool) {
        if limited {
            self.live.entry(runner.to_owned()).or_default().insert(job.clone());
        }
        self.recent.push_back(job.clone());
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Whether `job` was claimed of late.
    pub fn is_recent(&self, job: &JobKey) -> bool {
        self.recent.contains(job)
    }

    /// How many jobs `runner` has at most; `None` if its jobs were never counted.
    pub fn live_jobs(&self, runner: &str) -> Option<usize> {
        self.live.get(runner).map(BTreeSet::len)
    }

    /// The live jobs that are known of `runner`.
    pub fn known_live(&self, runner: &str) -> BTreeSet<JobKey> {
        self.live.get(runner).cloned().unwrap_or_default()
    }

    /// These jobs of `runner` have ended.
    pub fn ended(&mut self, runner: &str, jobs: &BTreeSet<JobKey>) {
        if let Some(live) = self.live.get_mut(runner) {
            live.retain(|job| !jobs.contains(job));
        }
    }

    /// Counts a runner's jobs anew.
    pub fn count(&mut self, runner: &str, jobs: BTreeSet<JobKey>) {
        self.live.insert(runner.to_owned(), jobs);
    }

    /// Forgets the counts and polls of runners that are not among `runners`: name, and whether it has a limit.
    pub fn keep_runners(&mut self, runners: &BTreeMap<String, bool>) {
        self.live.retain(|name, _| runners.get(name).copied().unwrap_or_default());
        self.polls.retain(|name, _| runners.contains_key(name));
        self.unfinished.retain(|name| runners.contains_key(name));
        self.full.retain(|name| runners.get(name).copied().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn job(id: u64) -> JobKey {
        JobKey { host: "gitlab.test".into(), id }
    }

    #[test]
    fn one_holds_it_until_it_is_released_or_expires() {
        let mut lease = Lease::default();
        assert_eq!(lease.take("a", at(0)), Taken::Ours);
        assert_eq!(lease.take("b", at(29)), Taken::Held);
        lease.extend(at(29));
        assert_eq!(lease.take("b", at(58)), Taken::Held);
        assert_eq!(lease.take("b", at(59)), Taken::Expired);
        lease.release();
        assert_eq!(lease.take("c", at(59)), Taken::Ours);
        // The clock went back by an hour.
        assert_eq!(lease.take("d", at(-3600)), Taken::Expired);
    }

    #[test]
    fn only_the_jobs_of_runners_with_a_limit_are_counted() {
        let mut lease = Lease::default();
        lease.count("one", BTreeSet::new());
        lease.claimed("one", &job(1), true);
        lease.claimed("two", &job(2), false);
        assert_eq!((lease.live_jobs("one"), lease.live_jobs("two")), (Some(1), None));
        assert!(lease.is_recent(&job(2)) && !lease.is_recent(&job(3)));
        lease.ended("one", &BTreeSet::from([job(1)]));
        assert_eq!(lease.live_jobs("one"), Some(0));
        lease.keep_runners(&BTreeMap::from([("one".to_owned(), false)]));
        assert_eq!(lease.live_jobs("one"), None);
    }
}
