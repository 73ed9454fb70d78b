//! Starts a pipeline: resolves the ref, reads `.gitlab-ci.yml` at that commit, makes the jobs.

use std::sync::Arc;

use super::machine;
use super::mirror::GitError;
use super::options::Trigger;
use super::shared::Shared;
use super::state::Pipeline;
use crate::pipeline::{self, ReadError, Request, Tree};

/// Why no pipeline was made.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// There is no such project.
    #[error("there is no project `{0}`")]
    NoProject(u64),
    /// The repository has no such branch or tag.
    #[error("the repository has no branch or tag `{0}`")]
    NoRef(String),
    /// git failed.
    #[error("the repository cannot be read")]
    Git(#[from] GitError),
    /// The commit has no pipeline file.
    #[error("the commit has no `.gitlab-ci.yml`")]
    NoFile(#[source] GitError),
    /// The file is not one that can be run.
    #[error(".gitlab-ci.yml: {0}")]
    File(#[from] ReadError),
}

pub(super) fn run(shared: &Arc<Shared>, project: u64, trigger: &Trigger) -> Result<u64, PipelineError> {
    let ref_name = trigger.ref_name.as_str();
    let no_project = || PipelineError::NoProject(project);
    let mirror =
        shared.read(|state| state.project(project).map(|row| Arc::clone(&row.mirror))).ok_or_else(no_project)?;
    mirror.refresh()?;
    let resolved = mirror.resolve(ref_name).ok_or_else(|| PipelineError::NoRef(ref_name.to_owned()))?;
    let text = mirror.file(&resolved.sha, ".gitlab-ci.yml").map_err(PipelineError::NoFile)?;
    let request = Request {
        path: ".gitlab-ci.yml",
        variables: Vec::new(),
        settings: Vec::new(),
        inputs: trigger.inputs.clone(),
        tree: Tree::of_text(&text),
    };
    let file = Arc::new(pipeline::create(&request)?);
    let commit = mirror.commit(&resolved.sha)?;
    let default_branch = mirror.default_branch();
    shared.change(|state| {
        let now = state.clock.now();
        let row = state.projects.iter_mut().find(|row| row.id == project).ok_or_else(no_project)?;
        row.default_branch = default_branch.unwrap_or_default();
        row.pipelines += 1;
        let iid = row.pipelines;
        let id = state.pipelines.keys().next_back().map_or(301, |last| last + 1);
        let same_ref = |other: &&Pipeline| other.project == project && other.ref_name == ref_name;
        let before = state.pipelines.values().rev().find(same_ref).map(|other| other.sha.clone());
        let pipeline = Pipeline {
            id,
            iid,
            project,
            ref_name: ref_name.to_owned(),
            tag: resolved.tag,
            before_sha: before.unwrap_or_else(|| "0".repeat(resolved.sha.len())),
            sha: resolved.sha,
            commit,
            file: Arc::clone(&file),
            status: "created",
            created_at: now,
            started_at: None,
            finished_at: None,
        };
        state.pipelines.insert(id, pipeline);
        for job in &file.jobs {
            state.create_job(id, Arc::new(job.clone()), 0);
        }
        state.process(id);
        Ok(id)
    })
}

impl Shared {
    /// Makes or deletes the persistent ref of a pipeline, as its status wants it now (§10.1).
    pub fn keep_pipeline_ref(&self, id: u64) -> Result<(), GitError> {
        let found = self.read(|state| {
            let pipeline = state.pipelines.get(&id)?;
            Some(Arc::clone(&state.project(pipeline.project)?.mirror))
        });
        let Some(mirror) = found else { return Ok(()) };
        // The mirror asks under its own lock, so that an old wish never undoes a newer one.
        mirror.settle_ref(id, || {
            self.read(|state| {
                let pipeline = state.pipelines.get(&id)?;
                (!machine::is_final(pipeline.status)).then(|| pipeline.sha.clone())
            })
        })
    }
}
