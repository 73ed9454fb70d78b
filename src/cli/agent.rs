//! Finds the agent that tasks on this machine run.

use std::path::PathBuf;

use anyhow::Context;

/// The agent that cargo builds beside this program.
pub(super) fn agent() -> anyhow::Result<PathBuf> {
    let agent = std::env::current_exe().context("finding this program")?.with_file_name("agent");
    anyhow::ensure!(agent.is_file(), "`{}` is missing: run `cargo build`, which makes the agent, too", agent.display());
    Ok(agent)
}
