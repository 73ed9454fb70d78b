//! How fast tasks are launched: a token bucket whose rate is learned from ECS.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What the account's region allows (aws.md §1.4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaunchQuota {
    /// Tasks that may be launched at once.
    pub burst: f64,
    /// Tasks per second after that.
    pub per_second: f64,
}

/// `RunTask` itself may be called so often in a second, burst and sustained; each call launches one task.
const RUN_TASK_CALLS: f64 = 20.0;
/// The learned rate never falls below this, in tasks per second.
const LEAST_RATE: f64 = 0.5;
/// Throttles within this time of the first one are the same event.
const ONE_EVENT: SignedDuration = SignedDuration::from_secs(1);
/// The pause after a throttle begins with this and doubles while throttles follow each other.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(500);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(3);
/// This much of the quota's rate is added with each launch that is not throttled.
const GROWTH: f64 = 0.02;

/// The bucket and what was learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaunchRate {
    tokens: f64,
    at: Timestamp,
    /// Tasks per second; `None` until ECS throttles for the first time.
    learned: Option<f64>,
    paused_until: Timestamp,
    throttled_at: Timestamp,
    pause: SignedDuration,
}

impl Default for LaunchRate {
    fn default() -> Self {
        LaunchRate {
            tokens: f64::MAX,
            at: Timestamp::UNIX_EPOCH,
            learned: None,
            paused_until: Timestamp::UNIX_EPOCH,
            throttled_at: Timestamp::UNIX_EPOCH,
            pause: SignedDuration::ZERO,
        }
    }
}

impl LaunchRate {
    /// Tasks per second that may be launched now.
    pub fn per_second(&self, quota: LaunchQuota) -> f64 {
        let most = quota.per_second.min(RUN_TASK_CALLS);
        self.learned.map_or(most, |learned| learned.min(most))
    }

    /// Takes one launch.
    ///
    /// # Errors
    /// The time before which none is left.
    pub fn take(&mut self, quota: LaunchQuota, now: Timestamp) -> Result<(), Timestamp> {
        if now < self.paused_until && self.paused_until <= now + LONGEST_PAUSE {
            return Err(self.paused_until);
        }
        let rate = self.per_second(quota);
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        let burst = if self.learned.is_some() { rate } else { quota.burst.min(RUN_TASK_CALLS) };
        self.tokens = (self.tokens + passed * rate).min(burst.max(1.0));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = SignedDuration::try_from_secs_f64((1.0 - self.tokens) / rate).unwrap_or(FIRST_PAUSE);
        Err(now + wait + SignedDuration::from_millis(1))
    }

    /// A launch was answered without a throttle.
    pub fn launched(&mut self, quota: LaunchQuota) {
        self.pause = SignedDuration::ZERO;
        if let Some(learned) = self.learned {
            let grown = learned + GROWTH * quota.per_second.min(RUN_TASK_CALLS);
            self.learned = (grown < quota.per_second.min(RUN_TASK_CALLS)).then_some(grown);
        }
    }

    /// ECS throttled a launch: the rate halves, and nothing is launched for a while.
    pub fn throttled(&mut self, quota: LaunchQuota, now: Timestamp) {
        if now >= self.throttled_at && now < self.throttled_at + ONE_EVENT && self.paused_until > now {
            return;
        }
        self.learned = Some((self.per_second(quota) / 2.0).max(LEAST_RATE));
        self.pause = if self.pause.is_zero() { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.tokens = 1.0;
        self.at = now;
        self.throttled_at = now;
        self.paused_until = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: LaunchQuota = LaunchQuota { burst: 100.0, per_second: 20.0 };
    const SMALL: LaunchQuota = LaunchQuota { burst: 25.0, per_second: 5.0 };

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn taken_at_once(rate: &mut LaunchRate, quota: LaunchQuota, now: Timestamp) -> usize {
        (0..200).take_while(|_| rate.take(quota, now).is_ok()).count()
    }

    #[test]
    fn launches_keep_within_the_quota_and_the_calls_of_run_task() {
        let mut rate = LaunchRate::default();
        assert_eq!(taken_at_once(&mut rate, LARGE, at(0)), 20);
        assert_eq!(taken_at_once(&mut rate, LARGE, at(1000)), 20);
        let mut rate = LaunchRate::default();
        assert_eq!(taken_at_once(&mut rate, SMALL, at(0)), 20);
        assert_eq!(taken_at_once(&mut rate, SMALL, at(1000)), 5);
        let next = rate.take(SMALL, at(1000)).unwrap_err();
        assert!(next > at(1000) && next <= at(1202), "{next}");
    }

    #[test]
    fn a_throttle_halves_the_rate_once_and_pauses() {
        let mut rate = LaunchRate::default();
        assert!(rate.take(LARGE, at(0)).is_ok());
        rate.throttled(LARGE, at(0));
        rate.throttled(LARGE, at(10));
        assert!((rate.per_second(LARGE) - 10.0).abs() < 0.01);
        assert_eq!(rate.take(LARGE, at(100)), Err(at(500)));
        assert!(rate.take(LARGE, at(500)).is_ok());
    }

    #[test]
    fn pauses_grow_to_three_seconds_and_the_rate_recovers_with_launches() {
        let mut rate = LaunchRate::default();
        for i in 0..20 {
            rate.throttled(LARGE, at(i * 5000));
        }
        assert!((rate.per_second(LARGE) - 0.5).abs() < 0.01);
        let now = at(19 * 5000);
        assert_eq!(rate.take(LARGE, now), Err(now + LONGEST_PAUSE));
        for _ in 0..60 {
            rate.launched(LARGE);
        }
        assert!((rate.per_second(LARGE) - 20.0).abs() < 0.01);
    }

    #[test]
    fn a_pause_that_a_jumping_clock_left_behind_is_ignored() {
        let mut rate = LaunchRate::default();
        rate.throttled(LARGE, at(3_600_000));
        assert!(rate.take(LARGE, at(0)).is_ok());
    }
}
