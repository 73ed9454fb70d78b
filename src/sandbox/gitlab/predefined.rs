//! Owns the variables of a job in the order GitLab sends them; a later one wins (gitlab-protocol.md §3.6, §10.1).

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::expand::{expand, slug};
use super::options::Variable;
use super::pipeline_row::Pipeline;
use super::secrets::id_tokens;
use super::state::{Job, State};
use crate::pipeline;

const VERSION: &str = "19.4.0";

/// One variable of a claim.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub key: String,
    pub value: String,
    pub public: bool,
    pub masked: bool,
    pub file: bool,
    pub raw: bool,
}

impl Sent {
    pub fn public(key: &str, value: impl Into<String>) -> Self {
        Sent { key: key.to_owned(), value: value.into(), public: true, masked: false, file: false, raw: false }
    }

    pub fn secret(key: &str, value: impl Into<String>) -> Self {
        Sent { public: false, masked: true, ..Sent::public(key, value) }
    }

    /// §3.6: `file` and `raw` are there only when set.
    pub fn json(&self) -> Value {
        let mut json = json!({ "key": self.key, "value": self.value, "public": self.public, "masked": self.masked });
        if self.file {
            json["file"] = true.into();
        }
        if self.raw {
            json["raw"] = true.into();
        }
        json
    }
}

/// The last value of `key`.
pub(super) fn last(variables: &[Sent], key: &str) -> Option<String> {
    variables.iter().rev().find(|variable| variable.key == key).map(|variable| variable.value.clone())
}

/// What is predefined when the file is read: the file's own variables win over it.
pub(super) fn of_event(state: &State, pipeline: &Pipeline) -> Vec<Sent> {
    [of_instance(state), of_project(state, pipeline), of_pipeline(state, pipeline)].concat()
}

/// What wins over the file's own variables: the project's settings, then the trigger's.
pub(super) fn over_the_file(state: &State, pipeline: &Pipeline) -> Vec<Sent> {
    [of_settings(state, pipeline), of_trigger(pipeline)].concat()
}

/// What GitLab itself can expand before a job runs: tags, environment names and resource groups.
pub(super) fn simple(state: &State, pipeline: &Pipeline, definition: &Arc<pipeline::Job>) -> Vec<Sent> {
    let parts = [
        of_definition(definition),
        of_instance(state),
        of_project(state, pipeline),
        of_pipeline(state, pipeline),
        of_file(definition),
        of_settings(state, pipeline),
        of_trigger(pipeline),
    ];
    parts.concat()
}

/// All variables of a claimed job.
pub(super) fn variables(state: &State, job: &Job, pipeline: &Pipeline) -> Vec<Sent> {
    let simple = simple(state, pipeline, &job.definition);
    let parts = [
        of_job(state, job, pipeline),
        id_tokens(state, job, pipeline, &simple),
        of_definition(&job.definition),
        of_instance(state),
        of_project(state, pipeline),
        of_pipeline(state, pipeline),
        of_runner(state, job),
        of_environment(&simple, job),
        of_file(&job.definition),
        of_dependencies(state, job),
        of_settings(state, pipeline),
        of_trigger(pipeline),
    ];
    parts.concat()
}

/// `git_info.repo_url` and `CI_REPOSITORY_URL` (§10.1).
pub(super) fn repository_url(state: &State, job: &Job) -> String {
    let token = job.token.as_deref().unwrap_or_default();
    let host = state.url.trim_start_matches("http://");
    let path = state.project(job.project).map_or("", |project| &project.path);
    format!("http://gitlab-ci-token:{token}@{host}/{path}.git")
}

fn of_job(state: &State, job: &Job, pipeline: &Pipeline) -> Vec<Sent> {
    let token = job.token.clone().unwrap_or_default();
    let project_url = state.project(job.project).map(|project| state.web_url(project)).unwrap_or_default();
    let started = super::hook_bodies::iso(job.started_at).unwrap_or_default();
    let mut variables = vec![
        Sent::public("CI_PIPELINE_ID", pipeline.id.to_string()),
        Sent::public("CI_PIPELINE_URL", format!("{project_url}/-/pipelines/{}", pipeline.id)),
        Sent::public("CI_JOB_ID", job.id.to_string()),
        Sent::public("CI_JOB_URL", format!("{project_url}/-/jobs/{}", job.id)),
        Sent::secret("CI_JOB_TOKEN", &token),
        Sent::public("CI_JOB_STARTED_AT", started),
        Sent { masked: false, ..Sent::secret("CI_REPOSITORY_URL", repository_url(state, job)) },
    ];
    if let Some(registry) = &state.registry {
        let path = state.project(job.project).map_or("", |project| &project.path);
        variables.push(Sent::public("CI_REGISTRY", registry));
        variables.push(Sent::public("CI_REGISTRY_IMAGE", format!("{registry}/{path}")));
        variables.push(Sent::public("CI_REGISTRY_USER", "gitlab-ci-token"));
        variables.push(Sent::secret("CI_REGISTRY_PASSWORD", token));
    }
    variables
}

fn of_definition(definition: &pipeline::Job) -> Vec<Sent> {
    let mut variables = vec![
        Sent::public("CI_JOB_NAME", &definition.name),
        Sent::public("CI_JOB_NAME_SLUG", slug(&definition.name)),
        Sent::public("CI_JOB_STAGE", &definition.stage),
        Sent::public("CI_NODE_TOTAL", definition.node.map_or(1, |node| node.total).to_string()),
    ];
    if let Some(node) = definition.node {
        variables.push(Sent::public("CI_NODE_INDEX", node.index.to_string()));
    }
    if definition.when == pipeline::When::Manual {
        variables.push(Sent::public("CI_JOB_MANUAL", "true"));
    }
    variables
}

fn of_instance(state: &State) -> Vec<Sent> {
    vec![
        Sent::public("CI", "true"),
        Sent::public("GITLAB_CI", "true"),
        Sent::public("CI_SERVER_URL", &state.url),
        Sent::public("CI_SERVER_HOST", "127.0.0.1"),
        Sent::public("CI_SERVER_PORT", state.url.rsplit(':').next().unwrap_or_default()),
        Sent::public("CI_SERVER_PROTOCOL", "http"),
        Sent::public("CI_SERVER_SHELL_SSH_HOST", "127.0.0.1"),
        Sent::public("CI_SERVER_SHELL_SSH_PORT", "22"),
        Sent::public("CI_SERVER_NAME", "GitLab"),
        Sent::public("CI_SERVER_VERSION", VERSION),
        Sent::public("CI_SERVER_VERSION_MAJOR", "19"),
        Sent::public("CI_SERVER_VERSION_MINOR", "4"),
        Sent::public("CI_SERVER_VERSION_PATCH", "0"),
        Sent::public("CI_SERVER_REVISION", "00000000000"),
        Sent::public("GITLAB_FEATURES", ""),
        Sent::public("CI_API_V4_URL", format!("{}/api/v4", state.url)),
        Sent::public("CI_API_GRAPHQL_URL", format!("{}/api/graphql", state.url)),
        Sent::public("CI_TEMPLATE_REGISTRY_HOST", "registry.gitlab.com"),
        Sent::public("GITLAB_USER_ID", "1"),
        Sent::public("GITLAB_USER_LOGIN", "root"),
        Sent::public("GITLAB_USER_NAME", "Administrator"),
        Sent::public("GITLAB_USER_EMAIL", "admin@example.com"),
    ]
}

fn of_project(state: &State, pipeline: &Pipeline) -> Vec<Sent> {
    let Some(project) = state.project(pipeline.project) else { return Vec::new() };
    vec![
        Sent::public("CI_PROJECT_ID", project.id.to_string()),
        Sent::public("CI_PROJECT_NAME", project.name()),
        Sent::public("CI_PROJECT_TITLE", project.name()),
        Sent::public("CI_PROJECT_DESCRIPTION", ""),
        Sent::public("CI_PROJECT_PATH", &project.path),
        Sent::public("CI_PROJECT_PATH_SLUG", slug(&project.path)),
        Sent::public("CI_PROJECT_NAMESPACE", project.namespace()),
        Sent::public("CI_PROJECT_NAMESPACE_ID", "2"),
        Sent::public("CI_PROJECT_ROOT_NAMESPACE", project.path.split('/').next().unwrap_or_default()),
        Sent::public("CI_PROJECT_URL", state.web_url(project)),
        Sent::public("CI_PROJECT_VISIBILITY", "private"),
        Sent::public("CI_PROJECT_REPOSITORY_LANGUAGES", ""),
        Sent::public("CI_PROJECT_CLASSIFICATION_LABEL", ""),
        Sent::public("CI_DEFAULT_BRANCH", &project.default_branch),
        Sent::public("CI_CONFIG_PATH", ".gitlab-ci.yml"),
    ]
}

fn of_pipeline(state: &State, pipeline: &Pipeline) -> Vec<Sent> {
    let commit = &pipeline.commit;
    let description =
        commit.message.split_once('\n').map(|(_, rest)| rest.trim_start_matches('\n')).unwrap_or_default();
    let protected = state.is_protected(pipeline.project, &pipeline.ref_name).to_string();
    let mut variables = vec![
        Sent::public("CI_PIPELINE_IID", pipeline.iid.to_string()),
        Sent::public("CI_PIPELINE_SOURCE", pipeline.source.as_str()),
        Sent::public("CI_PIPELINE_CREATED_AT", super::hook_bodies::iso(Some(pipeline.created_at)).unwrap_or_default()),
        Sent::public("CI_COMMIT_SHA", &pipeline.sha),
        Sent::public("CI_COMMIT_SHORT_SHA", pipeline.sha.get(..8).unwrap_or_default()),
        Sent::public("CI_COMMIT_BEFORE_SHA", &pipeline.before_sha),
        Sent::public("CI_COMMIT_REF_NAME", &pipeline.ref_name),
        Sent::public("CI_COMMIT_REF_SLUG", slug(&pipeline.ref_name)),
        Sent::public("CI_COMMIT_REF_PROTECTED", protected),
        Sent::public("CI_COMMIT_MESSAGE", &commit.message),
        Sent::public("CI_COMMIT_TITLE", commit.title()),
        Sent::public("CI_COMMIT_DESCRIPTION", description),
        Sent::public("CI_COMMIT_TIMESTAMP", &commit.timestamp),
        Sent::public("CI_COMMIT_AUTHOR", format!("{} <{}>", commit.author_name, commit.author_email)),
    ];
    variables.extend(pipeline.name.as_ref().map(|name| Sent::public("CI_PIPELINE_NAME", name)));
    if pipeline.tag {
        variables.push(Sent::public("CI_COMMIT_TAG", &pipeline.ref_name));
        variables.push(Sent::public("CI_COMMIT_TAG_MESSAGE", &pipeline.tag_message));
    }
    variables.extend(pipeline.branch().map(|branch| Sent::public("CI_COMMIT_BRANCH", branch)));
    let Some(project) = state.project(pipeline.project) else { return variables };
    if let Some(request) = &pipeline.merge_request {
        variables.extend(state.merge_request_variables(request, project));
    }
    if !pipeline.tag
        && let Some(open) = state.open_merge_requests(project, &pipeline.ref_name)
    {
        variables.push(Sent::public("CI_OPEN_MERGE_REQUESTS", open));
    }
    variables
}

fn of_runner(state: &State, job: &Job) -> Vec<Sent> {
    let Some(runner) = job.runner.and_then(|runner| state.runner(runner)) else { return Vec::new() };
    vec![
        Sent::public("CI_RUNNER_ID", runner.id.to_string()),
        Sent::public("CI_RUNNER_DESCRIPTION", &runner.spec.description),
        // As GitLab prints it: a Ruby array. The runner's tags, never the job's (§3.6).
        Sent::public("CI_RUNNER_TAGS", json!(runner.spec.tags).to_string().replace(",\"", ", \"")),
    ]
}

fn of_environment(simple: &[Sent], job: &Job) -> Vec<Sent> {
    let Some(environment) = &job.definition.environment else { return Vec::new() };
    let name = expand(&environment.name, |key| last(simple, key));
    let mut variables = vec![
        Sent::public("CI_ENVIRONMENT_NAME", &name),
        Sent::public("CI_ENVIRONMENT_SLUG", environment_slug(&name)),
        Sent::public("CI_ENVIRONMENT_ACTION", environment.action.as_deref().unwrap_or("start")),
    ];
    if let Some(url) = &environment.url {
        variables.push(Sent::public("CI_ENVIRONMENT_URL", url));
    }
    variables
}

/// The file's variables, each once.
fn of_file(definition: &pipeline::Job) -> Vec<Sent> {
    let mut merged: Vec<&pipeline::Variable> = Vec::new();
    for variable in &definition.variables {
        match merged.iter_mut().find(|known| known.key == variable.key) {
            Some(known) => *known = variable,
            None => merged.push(variable),
        }
    }
    merged.into_iter().map(|v| Sent { raw: v.raw, ..Sent::public(&v.key, &v.value) }).collect()
}

/// Dotenv reports arrive as variables that are not public (runner-behaviour.md §3.4).
fn of_dependencies(state: &State, job: &Job) -> Vec<Sent> {
    let pairs = state.dependencies(job).into_iter().flat_map(|dependency| dependency.dotenv.clone());
    pairs.map(|(key, value)| Sent { public: false, raw: true, ..Sent::public(&key, value) }).collect()
}

fn of_settings(state: &State, pipeline: &Pipeline) -> Vec<Sent> {
    let Some(project) = state.project(pipeline.project) else { return Vec::new() };
    let protected = state.is_protected(project.id, &pipeline.ref_name);
    let visible = project.variables.iter().filter(|variable| protected || !variable.protected);
    visible.map(secret).collect()
}

/// Whoever starts a pipeline has the last word.
fn of_trigger(pipeline: &Pipeline) -> Vec<Sent> {
    pipeline.variables.iter().map(secret).collect()
}

fn secret(variable: &Variable) -> Sent {
    let Variable { key, value, masked, file, raw, .. } = variable;
    Sent { public: false, masked: *masked, file: *file, raw: *raw, ..Sent::public(key, value) }
}

/// GitLab's `Slug::Environment`: at most 24 characters, a hash of the name behind whatever was changed.
fn environment_slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }) {
        if c != '-' || !slug.ends_with('-') {
            slug.push(c);
        }
    }
    if !slug.starts_with(|c: char| c.is_ascii_lowercase()) {
        slug = format!("env-{}", slug.trim_start_matches('-'));
    }
    if slug.len() <= 24 && slug == name {
        return slug;
    }
    slug.truncate(17);
    if !slug.ends_with('-') {
        slug.push('-');
    }
    // The last six digits of the SHA-256 in base 36.
    let modulus = 36_u64.pow(6);
    let mut rest = Sha256::digest(name).iter().fold(0_u64, |rest, byte| (rest * 256 + u64::from(*byte)) % modulus);
    let mut suffix = [0_u8; 6];
    for digit in suffix.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
        rest /= 36;
    }
    slug + &String::from_utf8_lossy(&suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_slug_is_short_and_unique() {
        assert_eq!(environment_slug("production"), "production");
        assert!(environment_slug("review/feature-1").starts_with("review-feature-1-"));
        assert_ne!(environment_slug("review/a"), environment_slug("review-a"));
        assert!(environment_slug(&"x".repeat(60)).len() <= 24);
        assert!(environment_slug("1st").starts_with("env-1st-"));
    }
}
