//! Builds the body of a 201 (gitlab-protocol.md §3.6, §10.1; runner-behaviour.md Appendix A).

use serde_json::{Value, json};

use super::options::Scope;
use super::payload_parts::{artifacts, cache, image, release_command, services};
use super::pipeline_row::Pipeline;
use super::predefined::{self, Sent, last};
use super::reasons::REASONS;
use super::secrets::secrets;
use super::state::{Job, State};

/// What the runner that claimed `job` is told.
pub(super) fn claim(state: &State, job: &Job) -> Option<Value> {
    let (pipeline, project) = state.parents(job)?;
    let variables = predefined::variables(state, job, pipeline);
    let protected = state.is_protected(project.id, &pipeline.ref_name);
    let timeout = job.timeout.as_secs();
    Some(json!({
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": true,
        "job_info": job_info(state, job, pipeline),
        "git_info": git_info(state, job, pipeline, &variables),
        "runner_info": { "uuid": null, "timeout": timeout, "runner_session_url": null },
        "inputs": [],
        "variables": variables.iter().map(Sent::json).collect::<Vec<_>>(),
        "steps": steps(state, job, timeout),
        "hooks": hooks(job),
        "image": job.definition.image.as_ref().map(image),
        "services": services(&job.definition.services),
        "artifacts": job.definition.artifacts.as_ref().map(artifacts),
        "cache": job.definition.cache.iter().map(|c| cache(c, project.cache_index, protected)).collect::<Vec<_>>(),
        "credentials": credentials(state, job),
        "dependencies": state.dependencies(job).into_iter().map(|d| dependency(d, job)).collect::<Vec<_>>(),
        "secrets": secrets(state, job, &variables),
        "features": {
            "trace_sections": true,
            "token_mask_prefixes": ["glpat-"],
            "failure_reasons": REASONS.as_slice(),
        },
        "suspend_options": {
            "suspend_on_success": false,
            "suspend_on_failure": false,
            "runtime_environment_key": null,
        },
    }))
}

impl State {
    /// The jobs whose artifacts `job` gets: those that it needs, or all of earlier stages; of these, those it names.
    pub fn dependencies(&self, job: &Job) -> Vec<&Job> {
        let Some(pipeline) = self.pipelines.get(&job.pipeline) else { return Vec::new() };
        let before: Vec<&Job> = match &job.definition.needs {
            Some(needs) => {
                let wanted = needs.iter().filter(|need| need.artifacts);
                wanted.filter_map(|need| self.jobs.get(&pipeline.latest_named(&need.job)?)).collect()
            }
            None => self.latest(pipeline.id).filter(|other| other.stage < job.stage).collect(),
        };
        let names = job.definition.dependencies.as_ref();
        let named = |other: &&Job| names.is_none_or(|names| names.contains(&other.definition.name));
        before.into_iter().filter(named).collect()
    }
}

fn job_info(state: &State, job: &Job, pipeline: &Pipeline) -> Value {
    let project = state.project(job.project);
    let on_instance = job.runner.and_then(|runner| state.runner(runner)).map(|runner| runner.spec.scope);
    // §3.6: a string; `+Inf` unless an instance runner asked. The job itself is not counted.
    let running = match on_instance {
        Some(Scope::Instance) => state.running_on_instance_runners(job.project).saturating_sub(1).to_string(),
        _ => "+Inf".to_owned(),
    };
    json!({
        "id": job.id,
        "name": job.definition.name,
        "stage": job.definition.stage,
        "pipeline_id": pipeline.id,
        "project_id": job.project,
        "project_name": project.map(super::state::Project::name),
        "project_full_path": project.map(|project| &project.path),
        "namespace_id": 2,
        "root_namespace_id": 2,
        "organization_id": 1,
        "instance_id": state.instance_uuid,
        "instance_uuid": state.instance_uuid,
        "user_id": 1,
        "scoped_user_id": null,
        "time_in_queue_seconds": job.queued_at.and_then(|at| state.seconds(Some(at), job.started_at)),
        "project_jobs_running_on_instance_runners_count": running,
        "queue_size": job.queue.0,
        "queue_depth": job.queue.1,
    })
}

fn git_info(state: &State, job: &Job, pipeline: &Pipeline, variables: &[Sent]) -> Value {
    let own = format!("refs/pipelines/{}", pipeline.id);
    let own = format!("+{own}:{own}");
    let name = &pipeline.ref_name;
    // §10.1: the variable GIT_DEPTH, else the project's default, which is 20.
    let depth = last(variables, "GIT_DEPTH").map_or(20, |depth| depth.trim().parse::<u64>().unwrap_or(0));
    let refspecs = match (depth, pipeline.branch()) {
        (0, _) => vec![own, "+refs/heads/*:refs/remotes/origin/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()],
        (_, Some(name)) => vec![own, format!("+refs/heads/{name}:refs/remotes/origin/{name}")],
        _ if pipeline.tag => vec![own, format!("+refs/tags/{name}:refs/tags/{name}")],
        _ => vec![own],
    };
    json!({
        "repo_url": predefined::repository_url(state, job),
        "repo_object_format": if pipeline.sha.len() == 64 { "sha256" } else { "sha1" },
        "ref": pipeline.git_ref(),
        "sha": pipeline.sha,
        "before_sha": pipeline.before_sha,
        "ref_type": if pipeline.tag { "tag" } else { "branch" },
        "refspecs": refspecs,
        "depth": depth,
        "protected": state.is_protected(job.project, name),
    })
}

fn hooks(job: &Job) -> Vec<Value> {
    let script = &job.definition.pre_get_sources_script;
    if script.is_empty() { Vec::new() } else { vec![json!({ "name": "pre_get_sources_script", "script": script })] }
}

/// before_script and script are one step (runner-behaviour.md §1.4); a release is made behind it.
fn steps(state: &State, job: &Job, timeout: u64) -> Value {
    let script = [job.definition.before_script.clone(), job.definition.script.clone()].concat();
    let mut steps = vec![json!({
        "name": "script",
        "script": script,
        "timeout": timeout,
        "when": "on_success",
        "allow_failure": false,
    })];
    if let Some(release) = job.definition.release.as_ref().filter(|_| state.releases) {
        steps.push(json!({
            "name": "release",
            "script": [release_command(release)],
            "timeout": timeout,
            "when": "on_success",
            "allow_failure": false,
        }));
    }
    if !job.definition.after_script.is_empty() {
        steps.push(json!({
            "name": "after_script",
            "script": job.definition.after_script,
            "timeout": timeout,
            "when": "always",
            "allow_failure": true,
        }));
    }
    steps.into()
}

fn credentials(state: &State, job: &Job) -> Vec<Value> {
    let registry = state.registry.iter();
    registry
        .map(|url| json!({ "type": "registry", "url": url, "username": "gitlab-ci-token", "password": job.token }))
        .collect()
}

/// §3.6: the token is the running job's; the file is named only if it is there.
fn dependency(dependency: &Job, job: &Job) -> Value {
    let mut json = json!({ "id": dependency.id, "name": dependency.definition.name, "token": job.token });
    if let Some(archive) = dependency.archive() {
        json["artifacts_file"] = json!({ "filename": archive.filename, "size": archive.size });
    }
    json
}
