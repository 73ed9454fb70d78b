//! Owns what we tell GitLab that we can do.

use serde::Serialize;

/// The `info.features` of every runner request (gitlab-protocol.md §3.2).
///
/// A missing feature fails the jobs that need it, a false one breaks them later: each is true only where the agent does
/// it. `two_phase_job_commit`, `session` and `terminal` stay off (§4, §12.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are GitLab's own")]
pub struct Features {
    pub variables: bool,
    pub raw_variables: bool,
    pub image: bool,
    pub services: bool,
    pub service_variables: bool,
    pub service_multiple_aliases: bool,
    pub image_executor_opts: bool,
    pub service_executor_opts: bool,
    pub artifacts: bool,
    pub artifacts_exclude: bool,
    pub upload_multiple_artifacts: bool,
    pub upload_raw_artifacts: bool,
    pub cache: bool,
    pub fallback_cache_keys: bool,
    pub shared: bool,
    pub refspecs: bool,
    pub masking: bool,
    pub proxy: bool,
    pub session: bool,
    pub terminal: bool,
    pub multi_build_steps: bool,
    pub trace_reset: bool,
    pub trace_checksum: bool,
    pub trace_size: bool,
    pub vault_secrets: bool,
    pub cancelable: bool,
    pub cancel_gracefully: bool,
    pub return_exit_code: bool,
    pub native_steps_integration: bool,
    pub two_phase_job_commit: bool,
    pub job_inputs: bool,
}

/// What Mayfly can do today.
pub fn features() -> Features {
    Features {
        variables: true,
        raw_variables: true,
        image: true,
        services: true,
        service_variables: true,
        service_multiple_aliases: true,
        image_executor_opts: true,
        service_executor_opts: true,
        artifacts: true,
        artifacts_exclude: true,
        upload_multiple_artifacts: true,
        upload_raw_artifacts: true,
        cache: true,
        fallback_cache_keys: true,
        shared: false,
        refspecs: true,
        masking: true,
        proxy: false,
        session: false,
        terminal: false,
        multi_build_steps: true,
        trace_reset: true,
        trace_checksum: true,
        trace_size: true,
        vault_secrets: true,
        cancelable: true,
        cancel_gracefully: true,
        return_exit_code: true,
        native_steps_integration: false,
        two_phase_job_commit: false,
        job_inputs: false,
    }
}
