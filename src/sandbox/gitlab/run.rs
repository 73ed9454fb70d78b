//! Starts a pipeline: resolves the ref, reads `.gitlab-ci.yml` at that commit, makes the jobs.

use std::sync::Arc;

use super::merge_request::MergeRequest;
use super::mirror::{GitError, Mirror, Resolved};
use super::options::{Source, Trigger};
use super::pipeline_row::{Pipeline, Roster};
use super::predefined::{self, Sent};
use super::shared::Shared;
use super::state::State;
use super::status::is_final;
use super::tree::tree;
use crate::pipeline::{self, ReadError, Request};

/// Where a pipeline's configuration lies.
const FILE: &str = ".gitlab-ci.yml";

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
    NoFile,
    /// The file is not one that can be run.
    #[error(".gitlab-ci.yml: {0}")]
    File(#[from] ReadError),
}

pub(super) fn run(shared: &Arc<Shared>, project: u64, trigger: &Trigger) -> Result<u64, PipelineError> {
    let no_project = || PipelineError::NoProject(project);
    let mirror =
        shared.read(|state| state.project(project).map(|row| Arc::clone(&row.mirror))).ok_or_else(no_project)?;
    mirror.refresh()?;
    let row = draft(shared, &mirror, project, trigger)?;
    let tree = tree(&mirror, &row.sha, row.compares_with())?;
    let path = trigger.path.as_deref().unwrap_or(FILE);
    if !tree.files.iter().any(|(known, _)| known == path) {
        return Err(PipelineError::NoFile);
    }
    let (variables, settings) =
        shared.read(|state| (predefined::of_event(state, &row), predefined::over_the_file(state, &row)));
    let pairs = |sent: Vec<Sent>| sent.into_iter().map(|variable| (variable.key, variable.value)).collect();
    let (variables, settings) = (pairs(variables), pairs(settings));
    let mut file = pipeline::create(&Request { path, variables, settings, inputs: trigger.inputs.clone(), tree })?;
    if let Some(only) = &trigger.only {
        file.keep_only(only);
    }
    Ok(shared.change(|state| {
        let id = row.id;
        state.insert_pipeline(row, file);
        state.start_pipeline(id);
        id
    }))
}

/// The row of the pipeline that `trigger` asks for, before its file is read.
fn draft(shared: &Arc<Shared>, mirror: &Mirror, project: u64, trigger: &Trigger) -> Result<Pipeline, PipelineError> {
    let no_ref = |name: &str| PipelineError::NoRef(name.to_owned());
    let name = trigger.ref_name.as_str();
    let resolved = mirror.resolve(name).ok_or_else(|| no_ref(name))?;
    let merge_request = match &trigger.source {
        Source::MergeRequest { target, title } => {
            let into = mirror.resolve(target).filter(|into| !into.tag).ok_or_else(|| no_ref(target))?;
            if resolved.tag {
                return Err(no_ref(name));
            }
            let diff_base = mirror.merge_base(&into.sha, &resolved.sha).unwrap_or_default();
            let (source, target, title) = (name.to_owned(), target.clone(), title.clone());
            Some(MergeRequest { iid: 0, source, target, title, diff_base })
        }
        Source::Push | Source::Web | Source::Api => None,
    };
    let commit = mirror.commit(&resolved.sha)?;
    let tag_message = if resolved.tag { mirror.tag_message(name) } else { String::new() };
    let default_branch = mirror.default_branch().unwrap_or_default();
    shared.change(|state| {
        let now = state.clock.now();
        let row = state.projects.iter_mut().find(|row| row.id == project).ok_or(PipelineError::NoProject(project))?;
        row.default_branch = default_branch;
        row.pipelines += 1;
        let iid = row.pipelines;
        state.last_pipeline += 1;
        let merge_request = merge_request.map(|request| MergeRequest {
            iid: state.merge_request_iid(project, &request.source, &request.target),
            ..request
        });
        Ok(Pipeline {
            id: state.last_pipeline,
            iid,
            project,
            source: trigger.source.clone(),
            ref_name: name.to_owned(),
            tag: resolved.tag,
            tag_message,
            merge_request,
            before_sha: state.before(project, trigger, &resolved).unwrap_or_else(|| "0".repeat(resolved.sha.len())),
            sha: resolved.sha,
            commit,
            name: None,
            variables: trigger.variables.clone(),
            file: Arc::default(),
            jobs: Roster::default(),
            status: "created",
            has_warnings: false,
            created_at: now,
            started_at: None,
            finished_at: None,
        })
    })
}

impl State {
    /// What the branch was before this push, as far as there was a pipeline for it; of all else there is no before.
    fn before(&self, project: u64, trigger: &Trigger, now: &Resolved) -> Option<String> {
        if trigger.source != Source::Push || now.tag {
            return None;
        }
        let of_branch = |other: &&Pipeline| {
            other.project == project && other.branch() == Some(&trigger.ref_name) && other.sha != now.sha
        };
        self.pipelines.values().rev().find(of_branch).map(|other| other.sha.clone())
    }

    /// Adds a pipeline whose file was read.
    pub fn insert_pipeline(&mut self, mut row: Pipeline, file: pipeline::Pipeline) {
        row.name.clone_from(&file.name);
        row.read(Arc::new(file));
        self.pipelines.insert(row.id, row);
    }
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
                (!is_final(pipeline.status)).then(|| pipeline.sha.clone())
            })
        })
    }
}
