//! Capacity refusals: what is refused in one class holds back that size and larger ones, there, for a while.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plan::Arch;

/// Tasks that share one pool of capacity and one vCPU quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// `FARGATE_SPOT` instead of `FARGATE`.
    pub spot: bool,
    /// The processor.
    pub arch: Arch,
}

/// Whether a task may be launched as far as capacity goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Free,
    /// One at a time: capacity was refused before, and one answer is enough to know whether it is back.
    Probe,
    /// Not before this time.
    NotBefore(Timestamp),
}

/// The first back-off after a refusal; it doubles while refusals follow each other.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(5);
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(60);

/// One class that was refused capacity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Hold {
    class: Class,
    /// The smallest size that was refused, in CPU units.
    cpu_units: u32,
    until: Timestamp,
    backoff: SignedDuration,
    /// When a smaller task of the class was last launched.
    smaller_launched: Option<Timestamp>,
}

/// All classes that were refused capacity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holds(Vec<Hold>);

impl Holds {
    /// Whether nothing was refused of late.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a task of this class and size may be launched.
    pub fn admission(&self, class: Class, cpu_units: u32, now: Timestamp) -> Admission {
        match self.0.iter().find(|hold| hold.class == class) {
            Some(hold) if cpu_units >= hold.cpu_units => {
                let is_over = hold.until <= now || hold.until > now + LONGEST_BACKOFF;
                if is_over { Admission::Probe } else { Admission::NotBefore(hold.until) }
            }
            _ => Admission::Free,
        }
    }

    /// ECS had no capacity for a task of this class and size.
    pub fn refused(&mut self, class: Class, cpu_units: u32, now: Timestamp) {
        match self.0.iter_mut().find(|hold| hold.class == class) {
            // An answer to a launch that began before the hold.
            Some(hold) if hold.until > now && cpu_units >= hold.cpu_units => {}
            Some(hold) => {
                let is_over = hold.until <= now;
                hold.cpu_units = if is_over { cpu_units } else { hold.cpu_units.min(cpu_units) };
                hold.backoff = if is_over { (hold.backoff * 2).min(LONGEST_BACKOFF) } else { hold.backoff };
                hold.until = now + hold.backoff;
            }
            None => self.0.push(Hold {
                class,
                cpu_units,
                until: now + FIRST_BACKOFF,
                backoff: FIRST_BACKOFF,
                smaller_launched: None,
            }),
        }
    }

    /// A task of this class and size was launched.
    pub fn launched(&mut self, class: Class, cpu_units: u32, now: Timestamp) {
        self.0.retain(|hold| hold.class != class || cpu_units < hold.cpu_units);
        if let Some(hold) = self.0.iter_mut().find(|hold| hold.class == class) {
            hold.smaller_launched = Some(now);
        }
    }

    /// A task of ours has stopped: whatever waits may be tried.
    pub fn lift(&mut self, now: Timestamp) {
        for hold in &mut self.0 {
            hold.until = hold.until.min(now);
            hold.backoff = FIRST_BACKOFF / 2;
        }
    }

    /// Whether smaller tasks of `class` were launched after `since`, while larger ones were refused.
    pub fn smaller_launched_since(&self, class: Class, since: Timestamp) -> bool {
        let hold = self.0.iter().find(|hold| hold.class == class);
        hold.and_then(|hold| hold.smaller_launched).is_some_and(|at| at > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON_DEMAND: Class = Class { spot: false, arch: Arch::Amd64 };
    const SPOT: Class = Class { spot: true, arch: Arch::Amd64 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_refusal_holds_its_class_and_its_size_and_larger_ones() {
        let mut holds = Holds::default();
        holds.refused(ON_DEMAND, 1024, at(0));
        assert_eq!(holds.admission(ON_DEMAND, 512, at(1)), Admission::Free);
        assert_eq!(holds.admission(SPOT, 8192, at(1)), Admission::Free);
        assert_eq!(holds.admission(ON_DEMAND, 1024, at(1)), Admission::NotBefore(at(5)));
        assert_eq!(holds.admission(ON_DEMAND, 8192, at(5)), Admission::Probe);
    }

    #[test]
    fn back_off_doubles_with_each_probe_that_fails_and_answers_of_one_burst_count_once() {
        let mut holds = Holds::default();
        for _ in 0..10 {
            holds.refused(ON_DEMAND, 1024, at(0));
        }
        assert_eq!(holds.admission(ON_DEMAND, 1024, at(0)), Admission::NotBefore(at(5)));
        holds.refused(ON_DEMAND, 1024, at(5));
        assert_eq!(holds.admission(ON_DEMAND, 1024, at(5)), Admission::NotBefore(at(15)));
        for probe in 1..10 {
            holds.refused(ON_DEMAND, 1024, at(probe * 100));
        }
        assert_eq!(holds.admission(ON_DEMAND, 1024, at(900)), Admission::NotBefore(at(960)));
    }

    #[test]
    fn a_launch_of_the_held_size_ends_the_hold_and_a_smaller_one_is_noted() {
        let mut holds = Holds::default();
        holds.refused(ON_DEMAND, 8192, at(0));
        holds.launched(ON_DEMAND, 256, at(1));
        assert!(holds.smaller_launched_since(ON_DEMAND, at(0)) && !holds.smaller_launched_since(ON_DEMAND, at(1)));
        assert_eq!(holds.admission(ON_DEMAND, 8192, at(1)), Admission::NotBefore(at(5)));
        holds.launched(ON_DEMAND, 8192, at(6));
        assert!(holds.is_empty());
    }

    #[test]
    fn a_stopped_task_lifts_the_hold_into_a_probe_and_a_larger_probe_frees_smaller_tasks() {
        let mut holds = Holds::default();
        holds.refused(ON_DEMAND, 1024, at(0));
        holds.lift(at(1));
        assert_eq!(holds.admission(ON_DEMAND, 1024, at(1)), Admission::Probe);
        holds.refused(ON_DEMAND, 8192, at(1));
        assert_eq!(holds.admission(ON_DEMAND, 1024, at(1)), Admission::Free);
        assert_eq!(holds.admission(ON_DEMAND, 8192, at(1)), Admission::NotBefore(at(6)));
    }
}
