//! Decides whether GitLab runs a failed job again by itself (gitlab-protocol.md §5.4).

use crate::pipeline::Retry;

/// What `retry` cannot help.
const NEVER: [&str; 5] = [
    "ci_quota_exceeded",
    "no_matching_runner",
    "missing_dependency_failure",
    "forward_deployment_failure",
    "environment_creation_failure",
];
/// Old names that stand for the newer ones they were split into.
const ALIASES: [(&str, &[&str]); 2] = [
    (
        "stuck_or_timeout_failure",
        &[
            "stuck_pending_with_matching_runners",
            "stuck_pending_no_matching_runners",
            "no_updates_running",
            "no_updates_canceling",
        ],
    ),
    ("job_execution_timeout", &["server_timeout_running", "server_timeout_canceling"]),
];
/// Without `retry` only this is tried again, so often.
const BY_ITSELF: (&str, u64) = ("scheduler_failure", 2);

/// Whether a job that failed for `reason` and was tried again `retries` times already is tried once more.
pub(super) fn tries_again(retry: &Retry, reason: &str, exit_code: Option<i64>, retries: u64) -> bool {
    if NEVER.contains(&reason) {
        return false;
    }
    let for_all = retry.when.is_empty() && retry.exit_codes.is_empty();
    let for_code = exit_code.is_some_and(|code| retry.exit_codes.contains(&code));
    let asked = for_all || for_code || retry.when.iter().any(|name| names(name, reason));
    let most = match retry.max {
        max if max > 0 && asked => max,
        _ if reason == BY_ITSELF.0 => BY_ITSELF.1,
        _ => 0,
    };
    retries < most
}

fn names(name: &str, reason: &str) -> bool {
    let alias = ALIASES.iter().any(|(old, new)| *old == name && new.contains(&reason));
    name == "always" || name == reason || alias
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(when: &[&str], exit_codes: &[i64]) -> Retry {
        Retry { max: 2, when: when.iter().map(|&name| name.to_owned()).collect(), exit_codes: exit_codes.to_vec() }
    }

    #[test]
    fn a_job_is_tried_again_for_the_reasons_it_names() {
        let all = retry(&[], &[]);
        let again = |retry: &Retry, reason| tries_again(retry, reason, Some(1), 0);

        assert!(again(&all, "script_failure") && again(&retry(&["always"], &[]), "unknown_failure"));
        assert!(!again(&all, "missing_dependency_failure"));
        assert!(again(&retry(&["stuck_or_timeout_failure"], &[]), "no_updates_running"));
        assert!(again(&retry(&["job_execution_timeout"], &[]), "server_timeout_running"));
        assert!(!again(&retry(&["api_failure"], &[]), "script_failure"));
        assert!(again(&retry(&[], &[1, 137]), "script_failure"));
        assert!(!again(&retry(&[], &[137]), "script_failure"));
        assert!(again(&retry(&["script_failure"], &[137]), "script_failure"));
    }

    #[test]
    fn it_is_tried_again_only_so_often() {
        let none = Retry::default();

        assert!(tries_again(&retry(&[], &[]), "script_failure", None, 1));
        assert!(!tries_again(&retry(&[], &[]), "script_failure", None, 2));
        assert!(!tries_again(&none, "script_failure", None, 0));
        assert!(tries_again(&none, "scheduler_failure", None, 1));
        assert!(!tries_again(&none, "scheduler_failure", None, 2));
    }
}
