//! Tells which of a job's variables are not what a runner reads in them; it goes on as if they were not there
//! (runner-behaviour.md §1.1).

use super::Variables;
use super::feature_flags::is_flag;
use super::variables::read_bool;

/// A variable that a runner reads as a number, and what it is otherwise.
const NUMBERS: [(&str, i64); 6] = [
    ("GET_SOURCES_ATTEMPTS", 1),
    ("RESTORE_CACHE_ATTEMPTS", 1),
    ("ARTIFACT_DOWNLOAD_ATTEMPTS", 1),
    ("EXECUTOR_JOB_SECTION_ATTEMPTS", 1),
    ("SECRETS_RETRIEVAL_ATTEMPTS", 1),
    ("CACHE_REQUEST_TIMEOUT", 10),
];

/// A variable that a runner reads as yes or no, and what it is otherwise.
const BOOLS: [(&str, bool); 6] = [
    ("CI_DEBUG_SERVICES", false),
    ("CI_DEBUG_TRACE", false),
    ("GIT_CHECKOUT", true),
    ("GIT_LFS_SKIP_SMUDGE", false),
    ("GIT_SUBMODULE_FORCE_HTTPS", false),
    ("AFTER_SCRIPT_IGNORE_ERRORS", true),
];

/// One sentence for each variable that cannot be read.
pub fn misread(variables: &Variables) -> Vec<String> {
    let text = |name: &str| variables.setting(name).filter(|text| !text.is_empty());
    let numbers = NUMBERS.iter().filter_map(|(name, default)| {
        let text = text(name).filter(|text| text.parse::<i64>().is_err())?;
        Some(format!("{name}: expected int got \"{text}\", using default value: {default}"))
    });
    let bools = BOOLS.iter().filter_map(|(name, default)| {
        let text = text(name).filter(|text| read_bool(text).is_none())?;
        Some(format!("{name}: expected bool got \"{text}\", using default value: {default}"))
    });
    let mut names: Vec<&str> = variables.iter().map(|variable| variable.key.as_str()).filter(|n| is_flag(n)).collect();
    names.sort_unstable();
    names.dedup();
    let flags = names.into_iter().filter_map(|name| {
        let text = text(name).filter(|text| read_bool(text).is_none())?;
        Some(format!("{name}: could not parse feature flag, expected bool, got {text}"))
    });
    numbers.chain(bools).chain(flags).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;

    #[test]
    fn what_cannot_be_read_is_told_by_name() {
        for (name, value, told) in [
            ("GET_SOURCES_ATTEMPTS", "3", None),
            ("GET_SOURCES_ATTEMPTS", "", None),
            ("GET_SOURCES_ATTEMPTS", "99", None),
            ("GET_SOURCES_ATTEMPTS", "x", Some("GET_SOURCES_ATTEMPTS: expected int got \"x\", using default value: 1")),
            ("CI_DEBUG_TRACE", "yes", Some("CI_DEBUG_TRACE: expected bool got \"yes\", using default value: false")),
            ("FF_TIMESTAMPS", "on", Some("FF_TIMESTAMPS: could not parse feature flag, expected bool, got on")),
            ("FF_MINE", "on", None),
        ] {
            let variables = [Variable::public(name, value)].into_iter().collect();
            assert_eq!(misread(&variables).first().map(String::as_str), told, "{name}={value}");
        }
    }
}
