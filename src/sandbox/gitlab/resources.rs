//! Owns the resource groups: of the jobs of one group, one at a time is pending or runs, over all pipelines of a project.

use std::collections::{BTreeSet, HashMap};

use super::state::State;
use super::status::Status;

/// A project and the expanded name of a group.
pub(super) type Group = (u64, String);

/// Who has the one resource of each group, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Resources(HashMap<Group, Resource>);

#[derive(Debug, Default)]
struct Resource {
    holder: Option<u64>,
    waiting: BTreeSet<u64>,
}

impl State {
    /// Makes a job claimable, as soon as its resource group lets it.
    pub fn enqueue(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(group) = job.group() else { return self.enter(id, Status::Pending) };
        // §1.8: every job of a group waits for a moment, and no hook tells.
        self.enter(id, Status::WaitingForResource);
        self.resources.0.entry(group.clone()).or_default().waiting.insert(id);
        self.hand_on(&group);
    }

    /// A job of a group is over: the next one may have the resource.
    pub fn release(&mut self, id: u64) {
        let Some(group) = self.jobs.get(&id).and_then(|job| job.group()) else { return };
        let Some(resource) = self.resources.0.get_mut(&group) else { return };
        resource.waiting.remove(&id);
        if resource.holder == Some(id) {
            resource.holder = None;
            self.hand_on(&group);
        }
    }

    /// The oldest that waits gets a free resource.
    fn hand_on(&mut self, group: &Group) {
        let Some(resource) = self.resources.0.get_mut(group).filter(|resource| resource.holder.is_none()) else {
            return;
        };
        let Some(next) = resource.waiting.pop_first() else { return };
        resource.holder = Some(next);
        // Its pipeline may be another one than that which is processed now.
        self.touched.extend(self.jobs.get(&next).map(|job| job.pipeline));
        self.enter(next, Status::Pending);
    }
}
