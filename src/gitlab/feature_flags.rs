//! Owns the names of GitLab Runner's feature flags and what they are unless a job says otherwise (runner-behaviour.md §12).

use super::Variables;

/// On in GitLab Runner 19.4.
const ON: [&str; 12] = [
    "FF_ENABLE_JOB_INPUTS_INTERPOLATION",
    "FF_MASK_ALL_DEFAULT_TOKENS",
    "FF_SECRET_RESOLVING_FAILS_IF_MISSING",
    "FF_TIMESTAMPS",
    "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY",
    "FF_USE_DIRECT_DOWNLOAD",
    "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO",
    "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
    "FF_USE_FASTZIP",
    "FF_USE_GITALY_CORRELATION_ID",
    "FF_USE_GIT_BUNDLE_URIS",
    "FF_USE_POD_ACTIVE_DEADLINE_SECONDS",
];

/// Off in GitLab Runner 19.4.
const OFF: [&str; 39] = [
    "FF_CLEAN_UP_FAILED_CACHE_EXTRACT",
    "FF_CONCRETE",
    "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION",
    "FF_DISABLE_POWERSHELL_STDIN",
    "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR",
    "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR",
    "FF_ENABLE_BASH_EXIT_CODE_CHECK",
    "FF_ENABLE_JOB_CLEANUP",
    "FF_EXPORT_HIGH_CARDINALITY_METRICS",
    "FF_GIT_URLS_WITHOUT_TOKENS",
    "FF_HASH_CACHE_KEYS",
    "FF_KUBERNETES_HONOR_ENTRYPOINT",
    "FF_LOG_IMAGES_CONFIGURED_FOR_JOB",
    "FF_NETWORK_PER_BUILD",
    "FF_POSIXLY_CORRECT_ESCAPES",
    "FF_PRINT_POD_EVENTS",
    "FF_RESOLVE_FULL_TLS_CHAIN",
    "FF_SCRIPT_SECTIONS",
    "FF_SCRIPT_TO_STEP_MIGRATION",
    "FF_SUSPENDABLE_ENVIRONMENTS",
    "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION",
    "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR",
    "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL",
    "FF_USE_FLEETING_ACQUIRE_HEARTBEATS",
    "FF_USE_GIT_NATIVE_CLONE",
    "FF_USE_GIT_PROACTIVE_AUTH",
    "FF_USE_INIT_WITH_DOCKER_EXECUTOR",
    "FF_USE_JOB_ROUTER",
    "FF_USE_LEGACY_BASH_EVAL",
    "FF_USE_LEGACY_GCS_CACHE_ADAPTER",
    "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY",
    "FF_USE_LEGACY_S3_CACHE_ADAPTER",
    "FF_USE_NATIVE_CONTAINER_STOP",
    "FF_USE_PARALLEL_ARTIFACT_TRANSFER",
    "FF_USE_PARALLEL_CACHE_TRANSFER",
    "FF_USE_POWERSHELL_PATH_RESOLVER",
    "FF_USE_WINDOWS_JOB_OBJECT",
    "FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY",
    "FF_WAIT_FOR_POD_TO_BE_REACHABLE",
];

/// The flags that `variables` set to what they are not by default, as the head of a log tells them: `FF_A:true, FF_B:false`.
pub fn changed_flags(variables: &Variables) -> Option<String> {
    let by_default = ON.iter().map(|name| (name, true)).chain(OFF.iter().map(|name| (name, false)));
    let changed = by_default.filter(|(name, default)| variables.flag(name, *default) != *default);
    let words: Vec<String> = changed.map(|(name, default)| format!("{name}:{}", !default)).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Whether GitLab Runner has a flag of this name.
pub(super) fn is_flag(name: &str) -> bool {
    ON.contains(&name) || OFF.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;

    fn changed(pairs: &[(&str, &str)]) -> Option<String> {
        let variable = |(key, value): &(&str, &str)| Variable { raw: false, ..Variable::public(key, *value) };
        changed_flags(&pairs.iter().map(variable).collect())
    }

    #[test]
    fn only_flags_that_differ_are_told() {
        let none = changed(&[("FF_TIMESTAMPS", "true"), ("FF_SCRIPT_SECTIONS", "0"), ("FF_MINE", "1"), ("A", "1")]);
        assert_eq!(none, None);
        let some = changed(&[("FF_SCRIPT_SECTIONS", "1"), ("FF_TIMESTAMPS", "$NO"), ("NO", "f"), ("FF_CONCRETE", "x")]);
        assert_eq!(some.as_deref(), Some("FF_TIMESTAMPS:false, FF_SCRIPT_SECTIONS:true"));
    }
}
