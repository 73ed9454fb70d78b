//! Builds the bodies of Job Hooks and Pipeline Hooks (gitlab-protocol.md §1.6, §1.7).
//!
//! A job's own tags are in neither; the tags that are there are the runner's.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pipeline_row::Pipeline;
use super::state::{Job, Project, Runner, State};
use crate::pipeline::When;

impl State {
    pub fn job_hook_body(&self, id: u64) -> Value {
        let Some((job, pipeline, project)) = self.family(id) else { return Value::Null };
        let commit = &pipeline.commit;
        json!({
            "object_kind": "build",
            "ref": pipeline.git_ref(),
            "tag": pipeline.tag,
            "before_sha": pipeline.before_sha,
            "sha": pipeline.sha,
            "retries_count": job.retries,
            "build_id": job.id,
            "build_name": job.definition.name,
            "build_stage": job.definition.stage,
            "build_status": job.status.as_str(),
            "build_created_at": utc(Some(job.created_at)),
            "build_started_at": utc(job.started_at),
            "build_finished_at": utc(job.finished_at),
            "build_created_at_iso": iso(Some(job.created_at)),
            "build_started_at_iso": iso(job.started_at),
            "build_finished_at_iso": iso(job.finished_at),
            "build_duration": self.seconds(job.started_at, job.finished_at),
            "build_queued_duration": job.queued_at.and_then(|at| self.seconds(Some(at), job.started_at)),
            "build_allow_failure": job.may_fail,
            // §1.6: `unknown_failure` on a job that has not failed, too.
            "build_failure_reason": job.failure_reason.as_deref().unwrap_or("unknown_failure"),
            "pipeline_id": pipeline.id,
            "runner": self.hook_runner(job),
            "project_id": project.id,
            "project_name": project.path.replace('/', " / "),
            "user": user(),
            "commit": {
                "id": pipeline.id,
                "name": pipeline.name,
                "sha": pipeline.sha,
                "message": commit.message,
                "author_name": commit.author_name,
                "author_email": commit.author_email,
                "author_url": format!("mailto:{}", commit.author_email),
                "status": pipeline.status,
                "duration": self.seconds(pipeline.started_at, pipeline.finished_at),
                "started_at": utc(pipeline.started_at),
                "finished_at": utc(pipeline.finished_at),
                "started_at_iso": iso(pipeline.started_at),
                "finished_at_iso": iso(pipeline.finished_at),
            },
            "repository": {
                "name": project.name(),
                "url": format!("git@127.0.0.1:{}.git", project.path),
                "description": "",
                "homepage": self.web_url(project),
                "git_http_url": format!("{}.git", self.web_url(project)),
                "git_ssh_url": format!("git@127.0.0.1:{}.git", project.path),
                "visibility_level": 0,
            },
            "project": self.hook_project(project),
            "environment": job.definition.environment.as_ref().map(|environment| json!({
                "name": environment.name,
                "action": environment.action.as_deref().unwrap_or("start"),
            })),
        })
    }

    pub fn pipeline_hook_body(&self, id: u64) -> Value {
        let Some(pipeline) = self.pipelines.get(&id) else { return Value::Null };
        let Some(project) = self.project(pipeline.project) else { return Value::Null };
        let commit = &pipeline.commit;
        json!({
            "object_kind": "pipeline",
            "object_attributes": {
                "id": pipeline.id,
                "iid": pipeline.iid,
                "name": pipeline.name,
                "ref": pipeline.ref_name,
                "tag": pipeline.tag,
                "sha": pipeline.sha,
                "before_sha": pipeline.before_sha,
                "source": pipeline.source.as_str(),
                "status": pipeline.status,
                "detailed_status": detailed_status(pipeline),
                "stages": pipeline.used_stages(),
                "created_at": utc(Some(pipeline.created_at)),
                "finished_at": utc(pipeline.finished_at),
                "duration": self.seconds(pipeline.started_at, pipeline.finished_at),
                "queued_duration": self.seconds(Some(pipeline.created_at), pipeline.started_at),
                "protected_ref": self.is_protected(project.id, &pipeline.ref_name),
                "default_branch": project.default_branch,
                "variables": pipeline.variables.iter().map(|v| json!({ "key": v.key, "value": v.value })).collect::<Vec<_>>(),
                "url": format!("{}/-/pipelines/{}", self.web_url(project), pipeline.id),
            },
            "merge_request": pipeline.merge_request.as_ref().map(|request| self.hook_merge_request(request, project)),
            "user": user(),
            "project": self.hook_project(project),
            "commit": {
                "id": pipeline.sha,
                "message": commit.message,
                "title": commit.title(),
                "timestamp": commit.timestamp,
                "url": format!("{}/-/commit/{}", self.web_url(project), pipeline.sha),
                "author": { "name": commit.author_name, "email": commit.author_email },
            },
            "builds": self.latest(id).map(|job| self.hook_build(job)).collect::<Vec<_>>(),
        })
    }

    /// A job with its pipeline and project.
    pub fn family(&self, id: u64) -> Option<(&Job, &Pipeline, &Project)> {
        let job = self.jobs.get(&id)?;
        let (pipeline, project) = self.parents(job)?;
        Some((job, pipeline, project))
    }

    pub fn parents(&self, job: &Job) -> Option<(&Pipeline, &Project)> {
        Some((self.pipelines.get(&job.pipeline)?, self.project(job.project)?))
    }

    pub fn web_url(&self, project: &Project) -> String {
        format!("{}/{}", self.url, project.path)
    }

    /// Seconds from `start` to `end`, or to now.
    pub fn seconds(&self, start: Option<Timestamp>, end: Option<Timestamp>) -> Option<f64> {
        let end = end.unwrap_or_else(|| self.clock.now());
        start.map(|start| end.duration_since(start).as_secs_f64())
    }

    fn hook_build(&self, job: &Job) -> Value {
        let archive = job.archive();
        json!({
            "id": job.id,
            "stage": job.definition.stage,
            "name": job.definition.name,
            "status": job.status.as_str(),
            "created_at": utc(Some(job.created_at)),
            "started_at": utc(job.started_at),
            "finished_at": utc(job.finished_at),
            "duration": self.seconds(job.started_at, job.finished_at),
            "queued_duration": job.queued_at.and_then(|at| self.seconds(Some(at), job.started_at)),
            "failure_reason": job.failure_reason,
            "when": when(job.definition.when),
            "manual": job.definition.when == When::Manual,
            "allow_failure": job.may_fail,
            "user": user(),
            "runner": self.hook_runner(job),
            "artifacts_file": {
                "filename": archive.map(|artifact| &artifact.filename),
                "size": archive.map(|artifact| artifact.size),
            },
            "environment": job.definition.environment.as_ref().map(|environment| json!({
                "name": environment.name,
                "action": environment.action.as_deref().unwrap_or("start"),
                "deployment_tier": null,
            })),
        })
    }

    fn hook_runner(&self, job: &Job) -> Option<Value> {
        let runner = self.runner(job.runner?)?;
        Some(json!({
            "id": runner.id,
            "description": runner.spec.description,
            "runner_type": runner.kind(),
            "active": !runner.spec.paused,
            "is_shared": runner.kind() == "instance_type",
            "tags": runner.spec.tags,
        }))
    }

    fn hook_project(&self, project: &Project) -> Value {
        json!({
            "id": project.id,
            "name": project.name(),
            "description": null,
            "web_url": self.web_url(project),
            "avatar_url": null,
            "git_ssh_url": format!("git@127.0.0.1:{}.git", project.path),
            "git_http_url": format!("{}.git", self.web_url(project)),
            "namespace": project.namespace(),
            "visibility_level": 0,
            "path_with_namespace": project.path,
            "default_branch": project.default_branch,
            "ci_config_path": null,
        })
    }
}

impl Runner {
    pub fn kind(&self) -> &'static str {
        match self.spec.scope {
            super::options::Scope::Instance => "instance_type",
            super::options::Scope::Project(_) => "project_type",
        }
    }
}

/// The one user of this GitLab.
pub(super) fn user() -> Value {
    json!({ "id": 1, "name": "Administrator", "username": "root", "avatar_url": null, "email": "admin@example.com" })
}

fn detailed_status(pipeline: &Pipeline) -> &'static str {
    match pipeline.status {
        "success" if pipeline.has_warnings => "passed with warnings",
        "success" => "passed",
        "manual" => "waiting for manual action",
        "scheduled" => "waiting for delayed job",
        "waiting_for_resource" => "waiting for resource",
        status => status,
    }
}

fn when(when: When) -> &'static str {
    match when {
        When::OnSuccess => "on_success",
        When::OnFailure => "on_failure",
        When::Always => "always",
        When::Manual => "manual",
        When::Delayed(_) => "delayed",
    }
}

/// A timestamp as hooks have always printed it.
fn utc(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

pub(super) fn iso(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}
