//! What the template tells a function in its environment.

use std::path::PathBuf;

use anyhow::Context;
use mayfly::config::{STACK_VARIABLE, Stack};
use mayfly::functions::PackedAgents;

/// Where `fleet.toml` lies: an `s3://bucket/key` URL.
pub const FLEET: &str = "MAYFLY_FLEET";

/// A variable that the template sets.
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("`{name}` is not set for this function"))
}

/// The stack's description of itself.
pub fn stack() -> anyhow::Result<Stack> {
    Ok(Stack::read(&variable(STACK_VARIABLE)?)?)
}

/// The agents in this function's package.
pub fn packed_agents() -> PackedAgents {
    let directory = std::env::var_os("LAMBDA_TASK_ROOT").map_or_else(|| PathBuf::from("/var/task"), PathBuf::from);
    PackedAgents::read(&directory)
}

/// The ledger's bucket.
pub fn ledger_bucket(stack: &Stack) -> anyhow::Result<&str> {
    Ok(&stack.ledger.as_ref().with_context(|| format!("`{STACK_VARIABLE}` names no ledger"))?.bucket)
}
