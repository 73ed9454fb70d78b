//! The jobs that are claimed and have no task yet, oldest first.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger::JobKey;

use super::Class;

/// A job that waits for its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitingJob {
    /// The job.
    pub job: JobKey,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// Where its next launch goes; `None` until it is planned.
    #[serde(default)]
    pub class: Option<Class>,
    /// Its size in CPU units; 0 until it is planned.
    #[serde(default)]
    pub cpu_units: u32,
    /// No try before this time.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// When the account's vCPU quota refused it for the first time.
    #[serde(default)]
    pub refused_since: Option<Timestamp>,
}

/// The jobs that wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Waiting(Vec<WaitingJob>);

impl WaitingJob {
    /// A job of which only the claim is known.
    pub fn claimed(job: JobKey, claimed_at: Timestamp) -> WaitingJob {
        WaitingJob { job, claimed_at, class: None, cpu_units: 0, not_before: None, refused_since: None }
    }
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &WaitingJob> {
        self.0.iter()
    }

    /// One of them.
    pub fn get_mut(&mut self, job: &JobKey) -> Option<&mut WaitingJob> {
        self.0.iter_mut().find(|waiting| waiting.job == *job)
    }

    /// Adds a job at the place of its age; false if it is there.
    pub fn add(&mut self, waiting: WaitingJob) -> bool {
        if self.0.iter().any(|known| known.job == waiting.job) {
            return false;
        }
        // Claims of one wave are answered in any order; GitLab hands out the lower ids first.
        let age = |waiting: &WaitingJob| (waiting.claimed_at.as_second(), waiting.job.id);
        let place = self.0.partition_point(|known| age(known) <= age(&waiting));
        self.0.insert(place, waiting);
        true
    }

    /// Notes where a planned job goes, its size, and when it was claimed: who wanted its launch may not have known.
    pub fn planned(&mut self, job: &JobKey, class: Class, cpu_units: u32, claimed_at: Timestamp) {
        let Some(place) = self.0.iter().position(|waiting| waiting.job == *job) else { return };
        let waiting = self.0.remove(place);
        self.add(WaitingJob { class: Some(class), cpu_units, claimed_at, ..waiting });
    }

    /// Removes a job, because it has a task or has ended.
    pub fn remove(&mut self, job: &JobKey) {
        self.0.retain(|waiting| waiting.job != *job);
    }

    /// The jobs.
    pub fn jobs(&self) -> BTreeSet<JobKey> {
        self.0.iter().map(|waiting| waiting.job.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_first_and_none_is_there_twice() {
        let key = |id| JobKey { host: "gitlab.test".into(), id };
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut waiting = Waiting::default();
        assert!(waiting.add(WaitingJob::claimed(key(2), at(20))));
        assert!(waiting.add(WaitingJob::claimed(key(1), at(10))));
        assert!(!waiting.add(WaitingJob::claimed(key(1), at(30))));
        assert_eq!(waiting.iter().map(|w| w.job.id).collect::<Vec<_>>(), [1, 2]);
        let class = Class { spot: false, arch: Default::default() };
        waiting.planned(&key(2), class, 1024, at(5));
        assert_eq!(waiting.iter().map(|w| (w.job.id, w.cpu_units)).collect::<Vec<_>>(), [(2, 1024), (1, 0)]);
        waiting.remove(&key(1));
        assert_eq!(waiting.jobs(), BTreeSet::from([key(2)]));
    }
}
