//! Makes the project that `--project` names.

use std::path::Path;

use anyhow::Context;

use crate::cli::exit::Usage;
use crate::cli::source::Repository;
use crate::sandbox::gitlab::{GitLab, Hook};
use crate::sandbox::stack::reachable;

use super::options::SandboxCommand;

/// A project, and what runs in it.
#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) branch: String,
    pub(super) pipeline: Option<u64>,
}

/// The repository of `directory`, which must have a commit to run.
pub(super) fn repository(directory: &Path) -> anyhow::Result<Repository> {
    let shown = directory.display();
    if !directory.is_dir() {
        return Err(Usage::error(format!("there is no directory `{shown}`")));
    }
    let repository = Repository::find(directory)?
        .ok_or_else(|| Usage::error(format!("`{shown}` is no git repository: run `git init` there, and commit")))?;
    if repository.head.is_none() {
        return Err(Usage::error(format!("`{shown}` has no commit that a pipeline could run: commit its files")));
    }
    if repository.branch.is_none() {
        return Err(Usage::error(format!("`{shown}` is on no branch that a pipeline could run for: check one out")));
    }
    Ok(repository)
}

impl Project {
    /// Adds `repository` to `gitlab`, with its hook and its first pipeline.
    pub(super) fn add(gitlab: &GitLab, repository: &Repository, command: &SandboxCommand) -> anyhow::Result<Project> {
        let branch = repository.branch.clone().unwrap_or_default();
        let path = repository.path.clone().unwrap_or_else(|| {
            let name = repository.top.file_name().unwrap_or_default().to_string_lossy();
            let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
            format!("sandbox/{}", name.chars().map(legal).collect::<String>())
        });
        let id = gitlab.add_project(&path, &repository.top);
        if let Some(url) = &command.hook_url {
            let near = command.aws_endpoint.as_deref().and_then(|endpoint| reachable(endpoint, url));
            gitlab.add_hook(
                id,
                Hook {
                    url: near.unwrap_or_else(|| url.clone()),
                    job_events: true,
                    pipeline_events: true,
                    secret_token: command.hook_token.clone(),
                    signing_token: None,
                },
            );
        }
        let pipeline = match command.pipeline {
            true => Some(gitlab.run_pipeline(id, &branch).context("starting the pipeline")?.id()),
            false => None,
        };
        Ok(Project { id, path, branch, pipeline })
    }
}
