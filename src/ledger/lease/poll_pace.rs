//! How often one runner's GitLab is asked for jobs.
//!
//! A poll that finds jobs is free. Empty polls are paid from a small allowance that refills with time, so that a
//! knock is answered at once and a storm of hooks still becomes one poll per spacing.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Empty polls of one runner are so far apart once the allowance is used up.
pub const POLL_SPACING: SignedDuration = SignedDuration::from_secs(1);
/// So many empty polls may follow each other without a pause.
const ALLOWANCE: f64 = 4.0;

/// The polls of one runner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PollPace {
    allowance: f64,
    at: Timestamp,
    /// A delayed poll is on its way and begins then.
    next: Option<Timestamp>,
}

/// Whether a poll may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollStart {
    /// Now.
    Now,
    /// Not before this time: the caller sends a delayed poll.
    At(Timestamp),
    /// A delayed poll is on its way and serves this wish, too.
    OnItsWay,
}

impl Default for PollPace {
    fn default() -> Self {
        PollPace { allowance: ALLOWANCE, at: Timestamp::UNIX_EPOCH, next: None }
    }
}

impl PollPace {
    /// Asks to begin a poll.
    pub fn start(&mut self, spacing: SignedDuration, now: Timestamp) -> PollStart {
        self.refill(spacing, now);
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
        }
        if self.allowance >= 1.0 {
            return PollStart::Now;
        }
        if self.next.is_some_and(|next| next <= now + spacing * 3) {
            return PollStart::OnItsWay;
        }
        let wait = spacing.as_secs_f64() * (1.0 - self.allowance);
        let at = now + SignedDuration::try_from_secs_f64(wait).unwrap_or(spacing);
        self.next = Some(at);
        PollStart::At(at)
    }

    /// A poll has ended without a job.
    pub fn was_empty(&mut self) {
        self.allowance = (self.allowance - 1.0).max(0.0);
    }

    /// Notes that a delayed poll begins at `at`; false if one is on its way that comes no later.
    pub fn expect(&mut self, at: Timestamp, now: Timestamp) -> bool {
        if self.next.is_some_and(|next| next > now && next <= at) {
            return false;
        }
        self.next = Some(at);
        true
    }

    fn refill(&mut self, spacing: SignedDuration, now: Timestamp) {
        let passed = now.duration_since(self.at).as_secs_f64();
        // A clock that went back neither fills nor empties.
        if passed > 0.0 {
            self.allowance = (self.allowance + passed / spacing.as_secs_f64().max(0.001)).min(ALLOWANCE);
        }
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn empty_polls_use_up_the_allowance_and_then_keep_the_spacing() {
        let mut pace = PollPace::default();
        for _ in 0..4 {
            assert_eq!(pace.start(POLL_SPACING, at(0)), PollStart::Now);
            pace.was_empty();
        }
        assert_eq!(pace.start(POLL_SPACING, at(0)), PollStart::At(at(1000)));
        assert_eq!(pace.start(POLL_SPACING, at(500)), PollStart::OnItsWay);
        assert_eq!(pace.start(POLL_SPACING, at(1000)), PollStart::Now);
        pace.was_empty();
        assert_eq!(pace.start(POLL_SPACING, at(1250)), PollStart::At(at(2000)));
    }

    #[test]
    fn polls_that_find_jobs_are_free() {
        let mut pace = PollPace::default();
        for _ in 0..100 {
            assert_eq!(pace.start(POLL_SPACING, at(0)), PollStart::Now);
        }
    }

    #[test]
    fn a_knock_does_not_wait_for_a_delayed_poll_while_the_allowance_lasts() {
        let mut pace = PollPace::default();
        assert!(pace.expect(at(3000), at(0)));
        assert!(!pace.expect(at(4000), at(0)));
        assert!(pace.expect(at(1000), at(0)));
        assert_eq!(pace.start(POLL_SPACING, at(100)), PollStart::Now);
    }
}
