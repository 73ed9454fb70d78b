//! A pipeline as a test or a command looks at it.

use std::sync::Arc;

use serde_json::Value;

use super::job_handle::JobHandle;
use super::payload;
use super::pipeline_row::Pipeline;
use super::shared::Shared;
use super::state::{Job, State};
use super::status::{Status, is_final};

/// Stands for the job token in a claim that nobody has made.
const NO_TOKEN: &str = "glcbt-preview";

/// A pipeline of the stand-in.
#[derive(Clone)]
pub struct PipelineHandle {
    shared: Arc<Shared>,
    id: u64,
}

/// What a runner would be told about one job.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The job.
    pub job: JobHandle,
    /// The body of the claim, with a token that opens nothing.
    pub claim: Value,
    /// The job's tags, which no claim tells.
    pub tags: Vec<String>,
}

impl PipelineHandle {
    pub(super) fn new(shared: &Arc<Shared>, id: u64) -> Self {
        PipelineHandle { shared: Arc::clone(shared), id }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its status now.
    pub fn status(&self) -> String {
        self.look(|row| row.status.to_owned())
    }

    /// Whether some job failed that was allowed to.
    pub fn has_warnings(&self) -> bool {
        self.look(|row| row.has_warnings)
    }

    /// Its `workflow:name`.
    pub fn name(&self) -> Option<String> {
        self.look(|row| row.name.clone())
    }

    /// The stages that have jobs, in order.
    pub fn stages(&self) -> Vec<String> {
        self.look(Pipeline::used_stages)
    }

    /// What its file asks for that only a real GitLab does.
    pub fn notes(&self) -> Vec<String> {
        self.look(|row| row.file.notes.clone())
    }

    /// The commit that it runs.
    pub fn sha(&self) -> String {
        self.look(|row| row.sha.clone())
    }

    /// The newest attempt of every job, in the order of the file.
    pub fn jobs(&self) -> Vec<JobHandle> {
        let ids = self.look(|row| row.latest().to_vec());
        ids.into_iter().map(|id| JobHandle::new(&self.shared, id)).collect()
    }

    /// The newest attempt of the job `name`.
    pub fn job(&self, name: &str) -> Option<JobHandle> {
        self.look(|row| row.latest_named(name)).map(|id| JobHandle::new(&self.shared, id))
    }

    /// What a runner would be told about each job, whatever became of it.
    pub fn previews(&self) -> Vec<Preview> {
        self.shared.read(|state| {
            let preview = |job: &Job| {
                let runner = state.runners.iter().find(|runner| state.fits(runner, job)).map(|runner| runner.id);
                let job = Job { token: Some(NO_TOKEN.to_owned()), runner, ..job.clone() };
                let claim = payload::claim(state, &job)?;
                Some(Preview { job: JobHandle::new(&self.shared, job.id), claim, tags: job.tags })
            };
            state.latest(self.id).filter_map(preview).collect()
        })
    }

    /// Cancels every job that waits or runs; one that a person would have to start stays as it is.
    pub fn cancel(&self) {
        self.shared.change(|state| state.cancel_pipeline(self.id));
    }

    /// Returns once the pipeline is over.
    pub async fn finished(&self) {
        self.shared.until(|state| state.pipelines.get(&self.id).is_none_or(|row| is_final(row.status))).await;
    }

    /// Returns once nothing of it moves by itself: it is over, or goes on only when a person starts a job.
    pub async fn rested(&self) {
        let moves = |job: &Job| {
            matches!(
                job.status,
                Status::WaitingForResource | Status::Pending | Status::Running | Status::Canceling | Status::Scheduled
            )
        };
        self.shared.until(|state: &State| !state.latest(self.id).any(moves)).await;
    }

    fn look<T: Default>(&self, look: impl FnOnce(&Pipeline) -> T) -> T {
        self.shared.read(|state| state.pipelines.get(&self.id).map(look).unwrap_or_default())
    }
}
