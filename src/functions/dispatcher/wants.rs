//! What events ask of the holder of the lease.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use crate::ledger::{JobKey, Wish};

/// A poll that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WantedPoll {
    /// How often the runner was polled in vain for the same knock.
    pub(super) in_vain: u8,
    /// The job that a hook named.
    pub(super) job: Option<u64>,
}

/// What a holder of the lease has to do.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Runners to poll.
    pub(super) polls: BTreeMap<String, WantedPoll>,
    /// Poll all runners, and see to the jobs that wait: a minute has passed.
    pub(super) all: bool,
    /// Jobs to bring to a launch.
    pub(super) launch: BTreeSet<JobKey>,
    /// A task has stopped: capacity may be there.
    pub(super) room: bool,
    /// Jobs wait whose time has come.
    pub(super) wake: bool,
    /// Gets the live jobs of the listing that follows the work.
    pub(super) listing: Option<oneshot::Sender<Vec<JobKey>>>,
}

/// A poll that is due every minute has no chain of retries behind it.
pub(super) const FROM_TICK: u8 = u8::MAX;

impl Wants {
    pub(super) fn poll(runners: impl IntoIterator<Item = String>, in_vain: u8, job: Option<u64>) -> Wants {
        let polls = runners.into_iter().map(|runner| (runner, WantedPoll { in_vain, job })).collect();
        Wants { polls, ..Wants::default() }
    }

    pub(super) fn launch(job: JobKey) -> Wants {
        Wants { launch: [job].into(), ..Wants::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.polls.is_empty() && self.launch.is_empty() && !self.all && !self.room && !self.wake
    }

    pub(super) fn add(&mut self, other: Wants) {
        for (runner, poll) in other.polls {
            self.add_poll(runner, poll);
        }
        self.launch.extend(other.launch);
        self.all |= other.all;
        self.room |= other.room;
        self.wake |= other.wake;
        if other.listing.is_some() {
            self.listing = other.listing;
        }
    }

    /// Of two polls of one runner the one with more retries left counts, and it is for both jobs.
    pub(super) fn add_poll(&mut self, runner: String, poll: WantedPoll) {
        let known = self.polls.entry(runner).or_insert(poll);
        known.in_vain = known.in_vain.min(poll.in_vain);
        if known.job != poll.job {
            known.job = None;
        }
    }

    pub(super) fn add_wish(&mut self, wish: Wish) {
        match wish {
            Wish::Poll { runner, in_vain, job } => self.add_poll(runner, WantedPoll { in_vain, job }),
            Wish::PollAll => self.all = true,
            Wish::Launch(job) => {
                self.launch.insert(job);
            }
            Wish::Room => self.room = true,
        }
    }

    /// The same as wishes for another holder.
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let polls = self.polls.iter();
        let polls =
            polls.map(|(runner, poll)| Wish::Poll { runner: runner.clone(), in_vain: poll.in_vain, job: poll.job });
        let launches = self.launch.iter().cloned().map(Wish::Launch);
        let all = self.all.then_some(Wish::PollAll);
        let room = self.room.then_some(Wish::Room);
        polls.chain(launches).chain(all).chain(room).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_survive_as_wishes() {
        let key = JobKey { host: "gitlab.test".into(), id: 7 };
        let mut wants = Wants::poll(["one".to_owned()], 2, Some(7));
        wants.add(Wants::poll(["one".to_owned()], 0, Some(8)));
        wants.add(Wants::launch(key));
        wants.add(Wants { room: true, all: true, ..Wants::default() });
        let mut again = Wants::default();
        wants.wishes().into_iter().for_each(|wish| again.add_wish(wish));
        assert_eq!(again.polls, wants.polls);
        assert_eq!(again.polls["one"], WantedPoll { in_vain: 0, job: None });
        assert_eq!((again.launch, again.room, again.all), (wants.launch, true, true));
        assert!(!wants.room || Wants::default().is_empty());
    }
}
