//! Reads a pipeline as GitLab would: the stand-in makes its jobs, and no runner is there to take them.

use std::sync::LazyLock;

use anyhow::Context;
use regex::Regex;
use serde_json::Value;

use crate::cli::exit::Usage;
use crate::pipeline::When;
use crate::sandbox::gitlab::{GitLab, Options, PipelineError, PipelineHandle, Preview, Trigger};

use super::snapshot::Snapshot;

/// What GitLab takes off a parallel job's name to find its siblings (`Gitlab::Ci::Status::Grouped`).
static SIBLING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:[\s:]+(?:\[.*\]|\d+[\s:/\\]+\d+)){1,3}\s*$").expect("it is a pattern"));

/// A pipeline that was made and is not run.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Reading {
    /// Its `workflow:name`.
    pub(in crate::cli) name: Option<String>,
    /// Its jobs, in the order of the file.
    pub(in crate::cli) jobs: Vec<ReadJob>,
    /// What the user should know about the file.
    pub(in crate::cli) notes: Vec<String>,
}

/// A job as it would be created.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct ReadJob {
    pub(in crate::cli) name: String,
    pub(in crate::cli) stage: String,
    pub(in crate::cli) when: When,
    /// The names of the jobs that it waits for; the stages decide without it.
    pub(in crate::cli) needs: Option<Vec<String>>,
    /// With variables expanded.
    pub(in crate::cli) tags: Vec<String>,
    /// What a runner would be told about it.
    pub(in crate::cli) claim: Value,
}

impl Reading {
    /// The pipeline that `trigger` makes of `snapshot`.
    pub(in crate::cli) async fn of(snapshot: &Snapshot, trigger: &Trigger) -> anyhow::Result<Reading> {
        let gitlab = GitLab::start(Options::default()).await.context("starting a stand-in for GitLab")?;
        let project = gitlab.add_project(&snapshot.project_path, snapshot.path());
        let reading = gitlab.trigger(project, trigger).map(|pipeline| Reading::new(&pipeline));
        gitlab.shutdown().await;
        reading.map_err(|error| match error {
            PipelineError::NoFile => {
                Usage::error(format!("there is no `.gitlab-ci.yml` in `{}`", snapshot.top.display()))
            }
            error => unreadable(error),
        })
    }

    fn new(pipeline: &PipelineHandle) -> Reading {
        let jobs = pipeline.previews().into_iter().map(ReadJob::new).collect();
        Reading { name: pipeline.name(), jobs, notes: pipeline.notes() }
    }
}

impl ReadJob {
    fn new(preview: Preview) -> ReadJob {
        let Preview { job, claim, tags } = preview;
        ReadJob { name: job.name(), stage: job.stage(), when: job.when(), needs: job.needs(), tags, claim }
    }

    /// The name that it shares with its siblings if it is one of a parallel job's.
    pub(in crate::cli) fn family(&self) -> &str {
        SIBLING.find(&self.name).map_or(&self.name, |sibling| &self.name[..sibling.start()])
    }

    /// Whether `name` is its name or its family's.
    pub(in crate::cli) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.family() == name
    }

    /// Whether it hands files over.
    pub(in crate::cli) fn makes_artifacts(&self) -> bool {
        self.claim["artifacts"].as_array().is_some_and(|artifacts| !artifacts.is_empty())
    }

    /// The names of the jobs whose artifacts it is given.
    pub(in crate::cli) fn dependencies(&self) -> impl Iterator<Item = &str> {
        self.claim["dependencies"].as_array().into_iter().flatten().filter_map(|dependency| dependency["name"].as_str())
    }
}

/// What its author has to mend is wrong usage; the rest is not.
pub(in crate::cli) fn unreadable(error: PipelineError) -> anyhow::Error {
    match error {
        PipelineError::NoProject(_) | PipelineError::Git(_) => error.into(),
        error => Usage::error(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parallel_job_is_called_by_its_family_too() {
        for (name, family) in [
            ("unit 1/3", "unit"),
            ("test: [ruby, 3.4]", "test"),
            ("build", "build"),
            ("v1/2", "v1/2"),
            ("deploy: 2", "deploy: 2"),
        ] {
            let job = ReadJob { name: name.to_owned(), ..ReadJob::default() };
            assert_eq!(job.family(), family, "{name}");
        }
    }
}
