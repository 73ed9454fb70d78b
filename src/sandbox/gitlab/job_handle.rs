//! A job as a test or a demo looks at it, and what a person may do to it.

use std::sync::Arc;

use jiff::Timestamp;

use super::shared::Shared;
use super::state::{Job, State};
use crate::pipeline::When;

/// A job of the stand-in.
#[derive(Clone)]
pub struct JobHandle {
    shared: Arc<Shared>,
    id: u64,
}

/// A file that a job handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactView {
    /// `archive` or a report type.
    pub kind: String,
    /// `zip`, `gzip` or `raw`.
    pub format: String,
    /// The name that it was uploaded with.
    pub filename: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// When it expires, as the runner said it.
    pub expire_in: Option<String>,
}

impl std::fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job {}", self.id)
    }
}

impl JobHandle {
    pub(super) fn new(shared: &Arc<Shared>, id: u64) -> Self {
        JobHandle { shared: Arc::clone(shared), id }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.look(|job| job.definition.name.clone())
    }

    /// Its stage.
    pub fn stage(&self) -> String {
        self.look(|job| job.definition.stage.clone())
    }

    /// When it starts.
    pub fn when(&self) -> When {
        self.look(|job| job.definition.when)
    }

    /// The names of the jobs that it needs; `None` waits for the stages before its own.
    pub fn needs(&self) -> Option<Vec<String>> {
        self.look(|job| Some(job.definition.needs.as_ref()?.iter().map(|need| need.job.clone()).collect()))
    }

    /// Its tags, with variables expanded.
    pub fn tags(&self) -> Vec<String> {
        self.look(|job| job.tags.clone())
    }

    /// Whether its failure is only a warning; where exit codes decide, this is known at its end.
    pub fn may_fail(&self) -> bool {
        self.look(|job| job.may_fail)
    }

    /// How often it was tried before, under other ids.
    pub fn retries(&self) -> u64 {
        self.look(|job| job.retries)
    }

    /// When a delayed job starts by itself.
    pub fn scheduled_at(&self) -> Option<Timestamp> {
        self.look(|job| job.scheduled_at)
    }

    /// Its status now.
    pub fn status(&self) -> String {
        self.look(|job| job.status.as_str().to_owned())
    }

    /// Why it failed.
    pub fn failure_reason(&self) -> Option<String> {
        self.look(|job| job.failure_reason.clone())
    }

    /// What its runner said the script ended with.
    pub fn exit_code(&self) -> Option<i64> {
        self.look(|job| job.exit_code)
    }

    /// The log that GitLab holds.
    pub fn trace(&self) -> Vec<u8> {
        self.look(|job| job.trace.clone())
    }

    /// How often GitLab itself had to hide the job token in the log: a runner should have.
    pub fn hidden_secrets(&self) -> usize {
        self.look(|job| job.hidden_secrets)
    }

    /// Whether the log was marked as a debug trace.
    pub fn debug_trace(&self) -> bool {
        self.look(|job| job.debug_trace)
    }

    /// Every status and when it was entered.
    pub fn history(&self) -> Vec<(Timestamp, String)> {
        self.look(|job| job.history.clone())
    }

    /// How often it entered a final state; more than once is a bug.
    pub fn finishes(&self) -> usize {
        self.look(|job| job.finishes)
    }

    /// The job token once claimed, so that leaks can be searched for.
    pub fn token(&self) -> Option<String> {
        self.look(|job| job.token.clone())
    }

    /// The description of the runner that claimed it.
    pub fn runner(&self) -> Option<String> {
        self.shared.read(|state| {
            let runner = state.jobs.get(&self.id)?.runner?;
            Some(state.runner(runner)?.spec.description.clone())
        })
    }

    /// The files that it handed over; one that cannot be read any more is empty.
    pub fn artifacts(&self) -> Vec<ArtifactView> {
        let view = |artifact: &super::state::Artifact| ArtifactView {
            kind: artifact.kind.clone(),
            format: artifact.format.clone(),
            filename: artifact.filename.clone(),
            bytes: std::fs::read(&artifact.file).unwrap_or_default(),
            expire_in: artifact.expire_in.clone(),
        };
        self.look(|job| job.artifacts.iter().map(view).collect())
    }

    /// When a runner claimed it.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.look(|job| job.started_at)
    }

    /// When it ended.
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.look(|job| job.finished_at)
    }

    /// Returns once it is over.
    pub async fn finished(&self) {
        self.shared.until(|state| state.jobs.get(&self.id).is_none_or(|job| job.status.is_final())).await;
    }

    /// Returns once it has ever been in `status`.
    pub async fn reached(&self, status: &str) {
        let reached = |job: &Job| job.history.iter().any(|(_, entered)| entered == status);
        self.shared.until(|state| state.jobs.get(&self.id).is_none_or(reached)).await;
    }

    /// Returns once its log contains `text`.
    pub async fn traced(&self, text: &str) {
        let text = text.as_bytes();
        let traced = |job: &Job| text.is_empty() || job.trace.windows(text.len()).any(|window| window == text);
        self.shared.until(|state| state.jobs.get(&self.id).is_none_or(traced)).await;
    }

    /// Cancels it (gitlab-protocol.md §8.3): `canceling` if its manager can, else `canceled`.
    pub fn cancel(&self) {
        self.shared.change(|state| state.cancel(self.id, false));
    }

    /// Ends it whether or not its runner agrees.
    pub fn force_cancel(&self) {
        self.shared.change(|state| state.cancel(self.id, true));
    }

    /// Whether somebody looks at its log (E18: interval 3 or 60).
    pub fn watch(&self, watched: bool) {
        self.shared.change(|state| {
            if let Some(job) = state.jobs.get_mut(&self.id) {
                job.watched = watched;
            }
        });
    }

    /// Starts it if it waits for a person or for its time; says whether it did.
    pub fn play(&self) -> bool {
        self.shared.change(|state| state.play(self.id))
    }

    /// Runs it again; what is not over or was retried already stays as it is.
    pub fn retry(&self) -> JobHandle {
        let id = self.shared.change(|state| state.retry(self.id)).unwrap_or(self.id);
        JobHandle::new(&self.shared, id)
    }

    /// Deletes its log and artifacts; only a finished job can be erased.
    pub fn erase(&self) -> bool {
        self.shared.change(|state: &mut State| state.erase(self.id))
    }

    fn look<T: Default>(&self, look: impl FnOnce(&Job) -> T) -> T {
        self.shared.read(|state| state.jobs.get(&self.id).map(look).unwrap_or_default())
    }
}
