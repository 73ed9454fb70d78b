//! Finds the agent that tasks on this machine run.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::exit::Usage;

/// The agent that cargo builds beside this program.
pub(super) fn agent() -> anyhow::Result<PathBuf> {
    let agent = std::env::current_exe().context("finding this program")?.with_file_name("agent");
    anyhow::ensure!(agent.is_file(), "`{}` is missing: run `cargo build`, which makes the agent, too", agent.display());
    Ok(agent)
}

/// An agent that runs in every image: `chosen`, or the one beside this program.
pub(super) fn static_agent(chosen: Option<&Path>) -> anyhow::Result<PathBuf> {
    let agent = match chosen {
        Some(chosen) => chosen.to_owned(),
        None => agent()?,
    };
    let needs_libraries = needs_libraries(&agent).with_context(|| format!("reading `{}`", agent.display()))?;
    if needs_libraries {
        return Err(Usage::error(format!(
            "`{}` needs this machine's libraries, and images have others: build a static agent with `make agent`, and \
             name it with --agent",
            agent.display()
        )));
    }
    Ok(agent)
}

/// Whether the program names a loader of shared libraries, which stands near its beginning.
fn needs_libraries(program: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(program)?.take(8192).read_to_end(&mut start)?;
    let names = |loader: &[u8]| start.windows(loader.len()).any(|window| window == loader);
    Ok(names(b"/ld-linux") || names(b"/ld-musl"))
}
