//! Says which settings of a job are replaced by their defaults, because nobody can read them (runner-behaviour.md §1.1).

use super::feature_flags::malformed;
use super::variables::parse_bool;
use super::{Job, Variables};

/// Settings that are yes or no, and what they are otherwise.
const BOOLS: [(&str, bool); 6] = [
    ("CI_DEBUG_SERVICES", false),
    ("CI_DEBUG_TRACE", false),
    ("GIT_CHECKOUT", true),
    ("GIT_LFS_SKIP_SMUDGE", false),
    ("GIT_SUBMODULE_FORCE_HTTPS", false),
    ("AFTER_SCRIPT_IGNORE_ERRORS", true),
];

/// Settings that are numbers, and what they are otherwise.
const NUMBERS: [(&str, i64); 6] = [
    ("GET_SOURCES_ATTEMPTS", 1),
    ("RESTORE_CACHE_ATTEMPTS", 1),
    ("ARTIFACT_DOWNLOAD_ATTEMPTS", 1),
    ("EXECUTOR_JOB_SECTION_ATTEMPTS", 1),
    ("SECRETS_RETRIEVAL_ATTEMPTS", 1),
    ("CACHE_REQUEST_TIMEOUT", 10),
];

/// A sentence for each, in GitLab Runner's words; `variables` are all of `job`'s.
pub(crate) fn job_warnings(job: &Job, variables: &Variables) -> Vec<String> {
    let said = |name: &str| variables.get(name).filter(|text| !text.is_empty());
    let mut warnings = Vec::new();
    for (name, default) in NUMBERS {
        // Minutes are taken in fractions, too.
        let is_read = |text: &&str| match name {
            "CACHE_REQUEST_TIMEOUT" => text.parse::<f64>().is_ok(),
            _ => text.parse::<i64>().is_ok(),
        };
        if let Some(text) = said(name).filter(|text| !is_read(text)) {
            warnings.push(format!("{name}: expected int got {text:?}, using default value: {default}"));
        }
    }
    for (name, default) in BOOLS {
        if let Some(text) = said(name).filter(|text| parse_bool(text).is_none()) {
            warnings.push(format!("{name}: expected bool got {text:?}, using default value: {default}"));
        }
    }
    if let Some(text) = said("GIT_STRATEGY").filter(|text| !["clone", "fetch", "none", "empty"].contains(text)) {
        let default = if job.allow_git_fetch { "fetch" } else { "clone" };
        warnings.push(format!(
            "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got {text:?}, using default value \
             '{default}'"
        ));
    }
    if let Some(text) = said("GIT_SUBMODULE_DEPTH").filter(|text| text.parse::<i64>().is_err()) {
        let default = job.git.depth;
        warnings.push(format!("GIT_SUBMODULE_DEPTH: expected int got {text:?}, using default value: {default}"));
    }
    warnings.extend(malformed(&job.variables, variables));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::{BuildPlace, job_variables};

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let variables: Vec<_> =
            variables.iter().map(|(key, value)| serde_json::json!({"key": key, "value": value})).collect();
        let body = serde_json::json!({"id": 1, "token": "t", "allow_git_fetch": true, "git_info": {"depth": 20},
            "variables": variables});
        let job = Job::read(body.to_string().as_bytes()).unwrap();
        job_warnings(&job, &job_variables(&job, &BuildPlace::default()))
    }

    #[test]
    fn what_cannot_be_read_is_told_in_gitlab_runners_words() {
        for (name, text, warning) in [
            ("GIT_CHECKOUT", "maybe", "GIT_CHECKOUT: expected bool got \"maybe\", using default value: true"),
            ("CI_DEBUG_TRACE", "yes", "CI_DEBUG_TRACE: expected bool got \"yes\", using default value: false"),
            ("GIT_SUBMODULE_DEPTH", "x", "GIT_SUBMODULE_DEPTH: expected int got \"x\", using default value: 20"),
            (
                "GIT_STRATEGY",
                "Clone",
                "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"Clone\", using default value \
                 'fetch'",
            ),
            ("FF_CONCRETE", "on", "FF_CONCRETE: could not parse feature flag, expected bool, got on"),
            ("FF_CONCRETE", "", "FF_CONCRETE: could not parse feature flag, expected bool, got "),
        ] {
            assert_eq!(warnings(&[(name, text)]), [warning], "{name} {text}");
        }
    }

    #[test]
    fn what_can_be_read_is_not_told() {
        let fine = [("GIT_CHECKOUT", "F"), ("GIT_STRATEGY", "$HOW"), ("HOW", "empty"), ("GIT_SUBMODULE_DEPTH", "-1")];
        assert_eq!(warnings(&fine), [""; 0]);
        assert_eq!(warnings(&[("GIT_CHECKOUT", ""), ("CI_DEBUG_TRACE", "$NOBODY")]), [""; 0]);
    }
}
