//! Owns which variables of the task are not the job's: ours, and those that Fargate sets for its own sake.

use std::ffi::OsString;

/// What the names begin with. `AWS_REGION` would overrule the `AWS_DEFAULT_REGION` that a job sets for itself.
const PREFIXES: [&str; 5] = ["MAYFLY_", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_CONTAINER_"];

/// The variables of this process that children must not inherit; the job's own of these names are set afterwards.
pub(super) fn not_for_children() -> impl Iterator<Item = OsString> {
    let is_ours =
        |name: &OsString| PREFIXES.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
    std::env::vars_os().map(|(name, _)| name).filter(is_ours)
}
