//! What a pipeline runs on: a repository as it stands, the event that starts it, and the jobs that come of it.

mod event;
mod git;
mod reading;
mod repository;
mod snapshot;
#[cfg(test)]
mod snapshot_tests;
mod tags;

pub(super) use event::EventOptions;
pub(super) use reading::{ReadJob, Reading, unreadable};
pub(super) use repository::Repository;
pub(super) use snapshot::Snapshot;
pub(super) use tags::{ForeignTag, foreign_tags};
