//! What a person does with the stand-in besides jobs: protection, limits, the registry, hooks again.

use std::time::Duration;

use super::server::GitLab;

impl GitLab {
    /// Protects a branch or tag of a project, as its default branch is from the start.
    pub fn protect(&self, project: u64, ref_name: &str) {
        self.shared().change(|state| {
            if let Some(row) = state.projects.iter_mut().find(|row| row.id == project) {
                row.protected_refs.push(ref_name.to_owned());
            }
        });
    }

    /// Sets the timeout of a project's jobs; an hour until then.
    pub fn set_project_timeout(&self, project: u64, timeout: Duration) {
        self.shared().change(|state| {
            if let Some(row) = state.projects.iter_mut().find(|row| row.id == project) {
                row.timeout = timeout;
            }
        });
    }

    /// "Clear runner caches": every cache key of the project gets a new index (gitlab-protocol.md §3.6).
    pub fn clear_caches(&self, project: u64) {
        self.shared().change(|state| {
            if let Some(row) = state.projects.iter_mut().find(|row| row.id == project) {
                row.cache_index = Some(row.cache_index.unwrap_or(0) + 1);
            }
        });
    }

    /// Lets the job tokens of project `from` read the repository of `project` (gitlab-protocol.md §10.1).
    pub fn allow_job_tokens(&self, project: u64, from: u64) {
        self.shared().change(|state| {
            if let Some(row) = state.projects.iter_mut().find(|row| row.id == project) {
                row.token_allowed_from.push(from);
            }
        });
    }

    /// Pauses or resumes a runner (E2).
    pub fn pause_runner(&self, token: &str, paused: bool) {
        self.shared().change(|state| {
            if let Some(runner) = state.runner_by_token(token) {
                runner.spec.paused = paused;
            }
        });
    }

    /// Whether a runner counts as online: its written contact is younger than two hours (gitlab-protocol.md §9.3).
    pub fn runner_online(&self, token: &str) -> bool {
        self.shared().read(|state| state.runners.iter().any(|runner| runner.token == token && state.is_online(runner)))
    }

    /// Turns the container registry on at `host`: `CI_REGISTRY…` and a credential come with every claim.
    pub fn enable_registry(&self, host: &str) {
        self.shared().change(|state| state.registry = Some(host.to_owned()));
    }

    /// From now on `release` is a step of its job, as in a real GitLab; until then such a job only runs its script.
    pub fn enable_releases(&self) {
        self.shared().change(|state| state.releases = true);
    }

    /// Lets jobs run without their `id_tokens:` and `secrets:`: nobody would trust these tokens.
    pub fn withhold_secrets(&self) {
        self.shared().change(|state| state.withholds_secrets = true);
    }

    /// The largest artifact in bytes; 100 MiB until then.
    pub fn set_artifact_limit(&self, bytes: u64) {
        self.shared().change(|state| state.artifact_limit = bytes);
    }

    /// The largest log in bytes; 100 MiB until then (gitlab-protocol.md §6.2).
    pub fn set_trace_limit(&self, bytes: u64) {
        self.shared().change(|state| state.trace_limit = bytes);
    }

    /// `ci_lower_stuck_build_timeouts`: a silent running job is given up after 30 minutes (the default here) or an hour.
    pub fn set_lower_stuck_timeouts(&self, on: bool) {
        self.shared().change(|state| state.lower_stuck_timeouts = on);
    }

    /// Sends a hook again by hand: the same bytes and key (gitlab-protocol.md §1.4). Says where it is in the list.
    pub fn redeliver(&self, delivery: usize) -> Option<usize> {
        self.shared().change(|state| state.redeliver(delivery))
    }
}
