//! Reads a pipeline as GitLab would: the stand-in makes its jobs, and no runner is there to take them.

use anyhow::Context;

use crate::cli::exit::Usage;
use crate::pipeline::{Pipeline, Request, Tree, create};
use crate::sandbox::gitlab::{GitLab, Options, PipelineError, PipelineHandle, Trigger};

use super::git::Git;
use super::snapshot::Snapshot;

/// A pipeline that was made and is not run.
pub(in crate::cli) struct Reading {
    gitlab: GitLab,
    /// What the file says.
    pub(in crate::cli) file: Pipeline,
    /// As GitLab holds it.
    pub(in crate::cli) pipeline: PipelineHandle,
}

impl Reading {
    /// The pipeline that `trigger` makes of `snapshot`.
    pub(in crate::cli) async fn of(snapshot: &Snapshot, trigger: &Trigger) -> anyhow::Result<Reading> {
        let gitlab = GitLab::start(Options::default()).await.context("starting a stand-in for GitLab")?;
        let project = gitlab.add_project(&snapshot.project_path, snapshot.path());
        let made = gitlab.trigger(project, trigger).map_err(unreadable);
        let read = made.and_then(|pipeline| Ok((pipeline, file(snapshot, trigger)?)));
        match read {
            Ok((pipeline, file)) => Ok(Reading { gitlab, file, pipeline }),
            Err(error) => {
                gitlab.shutdown().await;
                Err(error)
            }
        }
    }

    /// Stops the stand-in.
    pub(in crate::cli) async fn close(self) {
        self.gitlab.shutdown().await;
    }
}

fn file(snapshot: &Snapshot, trigger: &Trigger) -> anyhow::Result<Pipeline> {
    let text = Git::new(snapshot.path()).text(&["show", &format!("{}:.gitlab-ci.yml", snapshot.commit)])?;
    let request = Request {
        path: ".gitlab-ci.yml",
        variables: Vec::new(),
        inputs: trigger.inputs.clone(),
        tree: Tree::of_text(&text),
    };
    create(&request).map_err(|error| unreadable(error.into()))
}

/// What its author has to mend is wrong usage; the rest is not.
pub(in crate::cli) fn unreadable(error: PipelineError) -> anyhow::Error {
    match error {
        PipelineError::File(_) | PipelineError::NoFile(_) | PipelineError::NoRef(_) => Usage::error(error.to_string()),
        error => error.into(),
    }
}
