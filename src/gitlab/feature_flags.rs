//! Owns the feature flags of GitLab Runner 19.4: each is there in every job, on or off (runner-behaviour.md §12).
//!
//! What a flag means is with whom it concerns; flags of other executors and of the runner's own process mean nothing here.

use super::variables::parse_bool;
use super::{Variable, Variables};

/// On unless somebody says otherwise.
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

/// Off unless somebody says otherwise.
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

/// Every flag as the job has it; what is neither true nor false leaves the default.
pub(super) fn resolved(job: &Variables) -> impl Iterator<Item = Variable> {
    all().map(|(flag, default)| {
        let on = job.get(flag).and_then(parse_bool).unwrap_or(default);
        Variable::public(flag, if on { "true" } else { "false" })
    })
}

/// The flags that are not as they are by default, in order of their names, as the log's beginning shows them
/// (runner-behaviour.md §2.1); `variables` are all of a job's.
pub fn changed_flags(variables: &Variables) -> String {
    let mut changed: Vec<(&str, bool)> = all()
        .map(|(flag, default)| (flag, variables.flag(flag, default), default))
        .filter(|(_, on, default)| on != default)
        .map(|(flag, on, _)| (flag, on))
        .collect();
    changed.sort_unstable();
    let words: Vec<String> = changed.into_iter().map(|(flag, on)| format!("{flag}:{on}")).collect();
    words.join(", ")
}

/// Whether `key` is the name of a flag.
pub(super) fn is_flag(key: &str) -> bool {
    key.starts_with("FF_") && all().any(|(flag, _)| flag == key)
}

/// What to warn of: flags that `job` sets to neither true nor false, seen with `all` variables.
pub(super) fn malformed(job: &Variables, all: &Variables) -> Vec<String> {
    let wrong = |flag: &str| {
        let said = job.find(flag)?;
        let text = if said.raw { said.value.clone() } else { all.expand(&said.value) };
        let warning = format!("{flag}: could not parse feature flag, expected bool, got {text}");
        parse_bool(&text).is_none().then_some(warning)
    };
    self::all().filter_map(|(flag, _)| wrong(flag)).collect()
}

fn all() -> impl Iterator<Item = (&'static str, bool)> {
    ON.into_iter().map(|flag| (flag, true)).chain(OFF.into_iter().map(|flag| (flag, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_what_the_job_says_if_that_is_a_bool() {
        let said = [("FF_TIMESTAMPS", "0"), ("FF_CONCRETE", "T"), ("FF_USE_FASTZIP", "maybe"), ("FF_MINE", "x")];
        let job: Variables = said.into_iter().map(|(key, value)| Variable::public(key, value)).collect();
        let flags: Variables = resolved(&job).collect();
        assert_eq!(flags.iter().count(), 51);
        assert_eq!(flags.get("FF_TIMESTAMPS"), Some("false"));
        assert_eq!(flags.get("FF_CONCRETE"), Some("true"));
        assert_eq!(flags.get("FF_USE_FASTZIP"), Some("true"));
        assert_eq!(flags.get("FF_HASH_CACHE_KEYS"), Some("false"));
        assert_eq!(changed_flags(&flags), "FF_CONCRETE:true, FF_TIMESTAMPS:false");
        assert!(is_flag("FF_CONCRETE") && !is_flag("FF_MINE"));
        assert_eq!(malformed(&job, &job), ["FF_USE_FASTZIP: could not parse feature flag, expected bool, got maybe"]);
    }
}
