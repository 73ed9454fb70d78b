//! Builds a job as the REST API shows it (gitlab-protocol.md §8.1).

use serde_json::{Value, json};

use super::hook_bodies::{iso, user};
use super::state::State;

/// The entity; its `tag_list` is the one place where a job's tags can be read (§8.1).
pub(super) fn entity(state: &State, id: u64) -> Option<Value> {
    let (job, pipeline, project) = state.family(id)?;
    let runner = job.runner.and_then(|runner| state.runner(runner));
    let manager = runner.and_then(|runner| runner.managers.iter().find(|m| m.system_id == job.system_id));
    let mut tags = job.tags.clone();
    tags.sort();
    let web_url = state.web_url(project);
    let mut json = json!({
        "id": job.id,
        "status": job.status.as_str(),
        "stage": job.definition.stage,
        "name": job.definition.name,
        "ref": pipeline.git_ref(),
        "tag": pipeline.tag,
        "coverage": null,
        "allow_failure": job.may_fail,
        "created_at": iso(Some(job.created_at)),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "erased_at": iso(job.erased_at),
        "duration": state.seconds(job.started_at, job.finished_at),
        "queued_duration": job.queued_at.and_then(|at| state.seconds(Some(at), job.started_at)),
        "user": user(),
        "commit": {
            "id": pipeline.sha,
            "short_id": pipeline.sha.get(..8),
            "title": pipeline.commit.title(),
            "message": pipeline.commit.message,
            "author_name": pipeline.commit.author_name,
            "author_email": pipeline.commit.author_email,
        },
        "pipeline": {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "project_id": project.id,
            "sha": pipeline.sha,
            "ref": pipeline.git_ref(),
            "status": pipeline.status,
            "source": pipeline.source.as_str(),
            "web_url": format!("{web_url}/-/pipelines/{}", pipeline.id),
        },
        "web_url": format!("{web_url}/-/jobs/{}", job.id),
        "project": { "ci_job_token_scope_enabled": false },
        "artifacts": job.artifacts.iter().map(|artifact| json!({
            "file_type": artifact.kind,
            "size": artifact.size,
            "filename": artifact.filename,
            "file_format": artifact.format,
        })).collect::<Vec<_>>(),
        "runner": runner.map(|runner| json!({
            "id": runner.id,
            "description": runner.spec.description,
            "active": !runner.spec.paused,
            "paused": runner.spec.paused,
            "is_shared": runner.kind() == "instance_type",
            "runner_type": runner.kind(),
            "name": null,
            "online": state.is_online(runner),
            "status": if state.is_online(runner) { "online" } else { "offline" },
        })),
        "runner_manager": manager.map(|manager| json!({
            "system_id": manager.system_id,
            "version": manager.version,
            "contacted_at": iso(Some(manager.contacted_at)),
        })),
        "artifacts_expire_at": null,
        "archived": false,
        "tag_list": tags,
    });
    if let Some(reason) = &job.failure_reason {
        json["failure_reason"] = json!(reason);
    }
    if let Some(archive) = job.archive() {
        json["artifacts_file"] = json!({ "filename": archive.filename, "size": archive.size });
    }
    Some(json)
}
