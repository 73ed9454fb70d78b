//! Reads the fleet that a preview plans for.

use std::path::Path;

use anyhow::anyhow;

use crate::cli::exit::Usage;
use crate::config::{Fleet, Runner, Stack};

/// A fleet without ceilings of its own; only what a plan looks at matters.
const ANY: &str = "
[images]
default = 'busybox:latest'
[[runners]]
name = 'mayfly'
url = 'https://gitlab.invalid'
";

/// What a stack would tell of itself, for a `fleet.toml` as it is deployed; a plan looks at the region and the agents.
const STACK: &str = r#"{
    "stack_id": "preview", "region": "us-east-1", "prefix": "mayfly",
    "tasks": {"cluster": "mayfly", "subnets": ["subnet-0"], "log_group": "/mayfly/tasks",
              "execution_role": "arn:aws:iam::123456789012:role/mayfly-execution",
              "launch_key": "arn:aws:secretsmanager:us-east-1:123456789012:secret:mayfly/launch-key"},
    "broker": {"url": "https://broker.invalid", "agents_bucket": "agents", "agents": {
        "amd64": "0000000000000000000000000000000000000000000000000000000000000000",
        "arm64": "0000000000000000000000000000000000000000000000000000000000000000"}},
    "ledger": {"bucket": "ledger"}, "cache": {"bucket": "cache"}}"#;

/// The fleet in `file`, or one that gives all that Fargate has.
pub(super) fn fleet(file: Option<&Path>) -> anyhow::Result<Fleet> {
    let Some(file) = file else { return Ok(Fleet::read_in(&Stack::read(STACK)?, ANY)?) };
    let text = std::fs::read_to_string(file).map_err(|error| Usage::error(format!("`{}`: {error}", file.display())))?;
    let fleet = Fleet::read_in(&stack_beside(&text)?, &text);
    fleet.map_err(|error| Usage::error(format!("`{}`: {:#}", file.display(), anyhow!(error))))
}

/// The stack, without what the document sets itself.
fn stack_beside(document: &str) -> anyhow::Result<Stack> {
    let mut stack = Stack::read(STACK)?;
    let document: toml::Table = document.parse().unwrap_or_default();
    let sets = |key: &str| document.contains_key(key);
    let cache_bucket = document.get("cache").is_some_and(|cache| cache.get("bucket").is_some());
    stack.stack_id = stack.stack_id.filter(|_| !sets("system_id"));
    stack.region = stack.region.filter(|_| !sets("region"));
    stack.prefix = stack.prefix.filter(|_| !sets("prefix"));
    stack.tasks = stack.tasks.filter(|_| !sets("tasks"));
    stack.broker = stack.broker.filter(|_| !sets("broker"));
    stack.ledger = stack.ledger.filter(|_| !sets("ledger"));
    stack.cache = stack.cache.filter(|_| !cache_bucket);
    Ok(stack)
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
