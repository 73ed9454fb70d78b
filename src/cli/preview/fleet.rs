//! Owns the fleet that a preview plans for.

use std::path::Path;

use anyhow::anyhow;

use crate::cli::exit::Usage;
use crate::config::{Fleet, Runner};

/// A fleet without ceilings of its own; only what a plan looks at matters.
const ANY: &str = r#"
system_id = "r_preview00000"
region = "us-east-1"
[tasks]
cluster = "mayfly"
subnets = ["subnet-0"]
execution_role = "arn:aws:iam::123456789012:role/mayfly-execution"
launch_key = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mayfly/launch-key"
[broker]
url = "https://broker.invalid"
agents_bucket = "agents"
[broker.agents]
amd64 = "0000000000000000000000000000000000000000000000000000000000000000"
arm64 = "0000000000000000000000000000000000000000000000000000000000000000"
[ledger]
bucket = "ledger"
[cache]
bucket = "cache"
[images]
default = "busybox:latest"
[[runners]]
name = "mayfly"
url = "https://gitlab.invalid"
"#;

/// The fleet in `file`, or one that gives all that Fargate has.
pub(super) fn fleet(file: Option<&Path>) -> anyhow::Result<Fleet> {
    let Some(file) = file else { return Ok(Fleet::read(ANY)?) };
    let text = std::fs::read_to_string(file).map_err(|error| Usage::error(format!("`{}`: {error}", file.display())))?;
    Fleet::read(&text).map_err(|error| Usage::error(format!("`{}`: {:#}", file.display(), anyhow!(error))))
}

/// The runner called `name`, or the first.
pub(super) fn runner<'a>(fleet: &'a Fleet, name: Option<&str>) -> anyhow::Result<&'a Runner> {
    let found = match name {
        Some(name) => fleet.runner(name),
        None => fleet.runners.first(),
    };
    found.ok_or_else(|| Usage::error(format!("the fleet has no runner `{}`", name.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_of_a_preview_is_one_that_a_deployment_could_read() {
        let fleet = fleet(None).expect("it is read");
        assert_eq!(runner(&fleet, None).expect("the first").name, "mayfly");
        assert!(runner(&fleet, Some("other")).is_err());
    }
}
