//! A pipeline as a test or a demo looks at it.

use std::sync::Arc;

use super::job_handle::JobHandle;
use super::machine::is_final;
use super::shared::Shared;

/// A pipeline of the stand-in.
#[derive(Clone)]
pub struct PipelineHandle {
    shared: Arc<Shared>,
    id: u64,
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
        self.shared.read(|state| state.pipelines.get(&self.id).map_or("", |row| row.status).to_owned())
    }

    /// The commit that it runs.
    pub fn sha(&self) -> String {
        self.shared.read(|state| state.pipelines.get(&self.id).map(|row| row.sha.clone()).unwrap_or_default())
    }

    /// The newest attempt of every job, in the order of the file.
    pub fn jobs(&self) -> Vec<JobHandle> {
        let ids: Vec<u64> = self.shared.read(|state| state.latest(self.id).map(|job| job.id).collect());
        ids.into_iter().map(|id| JobHandle::new(&self.shared, id)).collect()
    }

    /// The newest attempt of the job `name`.
    pub fn job(&self, name: &str) -> Option<JobHandle> {
        self.jobs().into_iter().find(|job| job.name() == name)
    }

    /// Returns once the pipeline is over.
    pub async fn finished(&self) {
        self.shared.until(|state| state.pipelines.get(&self.id).is_none_or(|row| is_final(row.status))).await;
    }
}
