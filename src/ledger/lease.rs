//! Owns the lease: who in the deployment may claim and launch, and what the holder must remember between two looks.
//!
//! Pure: every function takes the time. The object is changed by compare-and-swap only.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The lease, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    holder: Option<String>,
    expires: Timestamp,
    /// Runners that somebody wants looked at again, with how often they were looked at in vain before.
    again: BTreeMap<String, u8>,
    looks: BTreeMap<String, RunnerLook>,
    /// Jobs that each runner has now; the tick counts them afresh.
    running: BTreeMap<String, u32>,
    bucket: LaunchBucket,
    hold_until: Option<Timestamp>,
    /// Chosen anew at each write: two of us who write the same are still two.
    written_by: String,
    /// Jobs claimed of late: a hook that names one of them needs no look.
    recent: VecDeque<String>,
}

/// When a runner was and will be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerLook {
    /// When the last look began.
    pub at: Timestamp,
    /// A delayed look is on its way and arrives then.
    pub next: Option<Timestamp>,
}

/// What came of trying to take the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Ours,
    /// Another holds it, and will see our marks.
    Marked,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LaunchBucket {
    tokens: f64,
    at: Timestamp,
}

/// How long the lease lasts without renewal.
pub const LEASE_SECONDS: i64 = 30;
/// Looks at one runner begin at least this far apart.
pub const LOOK_SPACING: SignedDuration = SignedDuration::from_secs(1);
/// Fargate launches in the large regions (aws.md §1.4).
const LAUNCH_BURST: f64 = 100.0;
const LAUNCHES_PER_SECOND: f64 = 20.0;
/// How long nothing is claimed after Fargate had no room.
const HOLD: SignedDuration = SignedDuration::from_secs(60);
/// How many claimed jobs are remembered.
const RECENT: usize = 200;

impl Default for Lease {
    fn default() -> Self {
        Lease {
            holder: None,
            expires: Timestamp::UNIX_EPOCH,
            again: BTreeMap::new(),
            looks: BTreeMap::new(),
            running: BTreeMap::new(),
            bucket: LaunchBucket { tokens: LAUNCH_BURST, at: Timestamp::UNIX_EPOCH },
            hold_until: None,
            written_by: String::new(),
            recent: VecDeque::new(),
        }
    }
}

impl Lease {
    /// Marks this state as the writing of `writer`.
    pub fn sign(&mut self, writer: String) {
        self.written_by = writer;
    }

    /// Takes the lease for `holder`, or leaves `runners` as marks for who has it.
    pub fn take(&mut self, holder: &str, runners: &BTreeMap<String, u8>, now: Timestamp) -> Taken {
        let free = self.holder.is_none() || self.expires <= now || self.is_held_by(holder);
        self.mark(runners);
        if !free {
            return Taken::Marked;
        }
        self.holder = Some(holder.to_owned());
        self.extend(now);
        Taken::Ours
    }

    /// Whether `holder` still has it.
    pub fn is_held_by(&self, holder: &str) -> bool {
        self.holder.as_deref() == Some(holder)
    }

    /// Keeps the lease; false if another has it meanwhile.
    pub fn renew(&mut self, holder: &str, now: Timestamp) -> bool {
        let ours = self.is_held_by(holder);
        if ours {
            self.extend(now);
        }
        ours
    }

    /// Takes the marks that others left.
    pub fn take_marks(&mut self) -> BTreeMap<String, u8> {
        std::mem::take(&mut self.again)
    }

    /// Whether there are marks.
    pub fn has_marks(&self) -> bool {
        !self.again.is_empty()
    }

    /// Wants `runners` looked at; of two wishes for one runner the fresher counts.
    pub fn mark(&mut self, runners: &BTreeMap<String, u8>) {
        for (runner, in_vain) in runners {
            let known = self.again.entry(runner.clone()).or_insert(*in_vain);
            *known = (*known).min(*in_vain);
        }
    }

    /// Lets the lease go.
    pub fn release(&mut self, holder: &str) {
        if self.is_held_by(holder) {
            self.holder = None;
            self.expires = Timestamp::UNIX_EPOCH;
        }
    }

    /// Begins a look at `runner`, or tells when one may begin; `Err(None)` when that look is on its way already.
    ///
    /// Looks begin at least `spacing` apart, and one that comes within three times that serves whoever knocks before
    /// it: a storm of hooks is no storm of claims.
    ///
    /// # Errors
    /// It is too early: come back at the time that is told.
    pub fn begin_look(
        &mut self,
        runner: &str,
        spacing: SignedDuration,
        now: Timestamp,
    ) -> Result<(), Option<Timestamp>> {
        if let Some(look) = self.looks.get_mut(runner) {
            if look.next.is_some_and(|next| next > now && next <= now + spacing * 3) {
                return Err(None);
            }
            let earliest = look.at + spacing;
            // A clock that went back does not stop us.
            if earliest > now && look.at <= now {
                look.next = Some(earliest);
                return Err(Some(earliest));
            }
        }
        self.looks.insert(runner.to_owned(), RunnerLook { at: now, next: None });
        Ok(())
    }

    /// Notes that a delayed look at `runner` arrives at `at`; false when one is on its way that comes no later.
    pub fn expect_look(&mut self, runner: &str, at: Timestamp, now: Timestamp) -> bool {
        let look = self.looks.entry(runner.to_owned()).or_insert(RunnerLook { at: now, next: None });
        if look.next.is_some_and(|next| next > now && next <= at) {
            return false;
        }
        look.next = Some(at);
        true
    }

    /// How many tasks may be launched now, at most `wanted`; they count as launched.
    pub fn take_launches(&mut self, wanted: u32, now: Timestamp) -> u32 {
        let passed = now.duration_since(self.bucket.at).as_secs_f64().max(0.0);
        let tokens = (self.bucket.tokens + passed * LAUNCHES_PER_SECOND).min(LAUNCH_BURST);
        let taken = f64::from(wanted).min(tokens.floor());
        self.bucket = LaunchBucket { tokens: tokens - taken, at: now };
        taken as u32
    }

    /// How many more jobs `runner` may have under `limit`.
    pub fn room(&self, runner: &str, limit: Option<u32>) -> u32 {
        let running = self.running.get(runner).copied().unwrap_or(0);
        limit.map_or(u32::MAX, |limit| limit.saturating_sub(running))
    }

    /// One more job of `runner`, called `job` in the ledger.
    pub fn claimed(&mut self, runner: &str, job: &str) {
        *self.running.entry(runner.to_owned()).or_default() += 1;
        self.recent.push_back(job.to_owned());
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Whether `job` was claimed of late.
    pub fn knows(&self, job: &str) -> bool {
        self.recent.iter().any(|known| known == job)
    }

    /// One job of `runner` less.
    pub fn settled(&mut self, runner: &str) {
        if let Some(running) = self.running.get_mut(runner) {
            *running = running.saturating_sub(1);
        }
    }

    /// The true counts, from the list of live jobs.
    pub fn recount(&mut self, running: BTreeMap<String, u32>) {
        self.running = running;
    }

    /// Fargate had no room: claim nothing for a while.
    pub fn hold(&mut self, now: Timestamp) {
        self.hold_until = Some(now + HOLD);
    }

    /// There is room again, or a task of ours stopped.
    pub fn end_hold(&mut self) {
        self.hold_until = None;
    }

    /// The hold has run out and nobody has seen capacity since: one claim is enough to find out.
    pub fn is_probing(&self, now: Timestamp) -> bool {
        self.hold_until.is_some_and(|until| until <= now)
    }

    /// Whether there was a hold, and nobody has seen capacity since.
    pub fn doubts_capacity(&self) -> bool {
        self.hold_until.is_some()
    }

    /// Whether claims must wait.
    pub fn is_on_hold(&self, now: Timestamp) -> bool {
        self.hold_until.is_some_and(|until| until > now)
    }

    fn extend(&mut self, now: Timestamp) {
        self.expires = now + SignedDuration::from_secs(LEASE_SECONDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn marks(names: &[&str]) -> BTreeMap<String, u8> {
        names.iter().map(|name| ((*name).to_owned(), 0)).collect()
    }

    #[test]
    fn one_holds_it_and_the_others_leave_marks() {
        let mut lease = Lease::default();
        assert_eq!(lease.take("a", &marks(&["one"]), at(0)), Taken::Ours);
        assert_eq!(lease.take("b", &marks(&["two"]), at(29)), Taken::Marked);
        assert_eq!(lease.take_marks(), marks(&["one", "two"]));
        assert!(lease.renew("a", at(29)));
        assert_eq!(lease.take("b", &marks(&[]), at(58)), Taken::Marked);
        assert_eq!(lease.take("b", &marks(&[]), at(59)), Taken::Ours);
        assert!(!lease.renew("a", at(60)));
        lease.release("a");
        assert!(lease.is_held_by("b"));
    }

    #[test]
    fn looks_begin_a_second_apart_and_one_delayed_look_is_enough() {
        let mut lease = Lease::default();
        assert_eq!(lease.begin_look("one", LOOK_SPACING, at(0)), Ok(()));
        assert_eq!(lease.begin_look("one", LOOK_SPACING, at(0)), Err(Some(at(1))));
        assert_eq!(lease.begin_look("one", LOOK_SPACING, at(0)), Err(None));
        assert_eq!(lease.begin_look("two", LOOK_SPACING, at(0)), Ok(()));
        assert_eq!(lease.begin_look("one", LOOK_SPACING, at(1)), Ok(()));
        assert!(lease.expect_look("one", at(4), at(1)));
        assert!(!lease.expect_look("one", at(5), at(2)));
        assert!(lease.expect_look("one", at(3), at(2)));
        assert_eq!(lease.begin_look("one", LOOK_SPACING, at(2)), Err(None));
        assert_eq!(lease.begin_look("one", LOOK_SPACING, at(3)), Ok(()));
    }

    #[test]
    fn launches_are_paced() {
        let mut lease = Lease::default();
        assert_eq!(lease.take_launches(150, at(0)), 100);
        assert_eq!(lease.take_launches(1, at(0)), 0);
        assert_eq!(lease.take_launches(50, at(1)), 20);
    }

    #[test]
    fn a_limit_leaves_room_for_so_many() {
        let mut lease = Lease::default();
        lease.claimed("one", "h/1");
        lease.claimed("one", "h/2");
        assert_eq!(lease.room("one", Some(3)), 1);
        assert_eq!(lease.room("one", None), u32::MAX);
        lease.settled("one");
        assert_eq!(lease.room("one", Some(3)), 2);
        assert!(lease.knows("h/1") && !lease.knows("h/3"));
        lease.recount(BTreeMap::new());
        assert_eq!(lease.room("one", Some(3)), 3);
    }

    #[test]
    fn a_hold_runs_out_into_probing_and_ends_with_the_first_capacity() {
        let mut lease = Lease::default();
        assert!(!lease.is_on_hold(at(0)) && !lease.is_probing(at(0)));
        lease.hold(at(0));
        assert!(lease.is_on_hold(at(59)) && !lease.is_probing(at(59)));
        assert!(!lease.is_on_hold(at(60)) && lease.is_probing(at(60)));
        lease.end_hold();
        assert!(!lease.is_probing(at(60)) && !lease.doubts_capacity());
    }
}
