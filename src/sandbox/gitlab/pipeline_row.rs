//! Owns the row of a pipeline: the event that made it, and the newest attempt of each of its jobs.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::merge_request::MergeRequest;
use super::mirror::Commit;
use super::options::{Source, Variable};
use crate::pipeline;

pub(super) struct Pipeline {
    pub id: u64,
    pub iid: u64,
    pub project: u64,
    pub source: Source,
    /// The branch or tag; a merge request's source branch.
    pub ref_name: String,
    pub tag: bool,
    pub tag_message: String,
    pub merge_request: Option<MergeRequest>,
    pub sha: String,
    pub before_sha: String,
    pub commit: Commit,
    /// `workflow:name`, expanded.
    pub name: Option<String>,
    /// Variables of this run.
    pub variables: Vec<Variable>,
    pub file: Arc<pipeline::Pipeline>,
    pub jobs: Roster,
    pub status: &'static str,
    pub has_warnings: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// The newest attempt of each job, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Roster {
    latest: Vec<u64>,
    places: HashMap<String, usize>,
    /// Places by stage, in the order of the stages.
    stages: Vec<Vec<usize>>,
}

impl Pipeline {
    /// Every job's place in `file`, without jobs yet.
    pub fn read(&mut self, file: Arc<pipeline::Pipeline>) {
        self.jobs = Roster::default();
        self.jobs.stages.resize_with(file.stages.len(), Vec::new);
        self.file = file;
    }

    /// The place of a stage among the pipeline's.
    pub fn stage_index(&self, stage: &str) -> usize {
        self.file.stages.iter().position(|other| other == stage).unwrap_or_default()
    }

    /// `id` is the first attempt of the job `name`.
    pub fn add_job(&mut self, name: &str, stage: usize, id: u64) {
        let place = self.jobs.latest.len();
        self.jobs.latest.push(id);
        self.jobs.places.insert(name.to_owned(), place);
        if let Some(places) = self.jobs.stages.get_mut(stage) {
            places.push(place);
        }
    }

    /// `id` is the newest attempt of the job `name`.
    pub fn replace_job(&mut self, name: &str, id: u64) {
        if let Some(place) = self.jobs.places.get(name) {
            self.jobs.latest[*place] = id;
        }
    }

    pub fn latest(&self) -> &[u64] {
        &self.jobs.latest
    }

    pub fn latest_named(&self, name: &str) -> Option<u64> {
        self.jobs.latest.get(*self.jobs.places.get(name)?).copied()
    }

    pub fn by_stage(&self) -> Vec<Vec<u64>> {
        let ids = |places: &Vec<usize>| places.iter().map(|place| self.jobs.latest[*place]).collect();
        self.jobs.stages.iter().map(ids).collect()
    }

    /// The stages that have jobs.
    pub fn used_stages(&self) -> Vec<String> {
        let used = self.file.stages.iter().zip(&self.jobs.stages).filter(|(_, jobs)| !jobs.is_empty());
        used.map(|(stage, _)| stage.clone()).collect()
    }

    /// The ref as jobs name it; a merge request has one of its own.
    pub fn git_ref(&self) -> String {
        self.merge_request.as_ref().map_or_else(|| self.ref_name.clone(), MergeRequest::git_ref)
    }

    /// The commit that shows what the event changed: only a merge request, or a push to a branch that was there, has one.
    pub fn compares_with(&self) -> Option<&str> {
        let before = self.merge_request.as_ref().map_or(self.before_sha.as_str(), |request| &request.diff_base);
        before.bytes().any(|digit| digit != b'0').then_some(before)
    }

    /// The branch that a pipeline for a branch belongs to.
    pub fn branch(&self) -> Option<&str> {
        (!self.tag && self.merge_request.is_none()).then_some(self.ref_name.as_str())
    }
}
