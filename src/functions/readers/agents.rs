//! The agents that are packed with dispatcher and broker: their hashes, and with the broker the programs themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tracing::error;

/// The list of agents in a function's package: SHA-256 in hex by architecture.
const LIST: &str = "agents.json";

/// What a function's package holds.
#[derive(Clone, Debug, Default)]
pub struct PackedAgents {
    directory: PathBuf,
    by_architecture: BTreeMap<String, String>,
}

impl PackedAgents {
    /// Reads the list in `directory`. Without a readable one every job is refused with a sentence, and the log has the
    /// reason.
    pub fn read(directory: &Path) -> PackedAgents {
        let list = directory.join(LIST);
        let read = std::fs::read(&list).map_err(|error| error.to_string());
        let read = read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        let by_architecture: BTreeMap<String, String> = read.unwrap_or_else(|error| {
            error!("the package has no agents, so no job can run; build it with `make`: `{}`: {error}", list.display());
            BTreeMap::new()
        });
        let by_architecture = by_architecture.into_iter().filter(|(_, sha256)| is_sha256(sha256)).collect();
        PackedAgents { directory: directory.to_owned(), by_architecture }
    }

    /// Hashes by architecture.
    pub fn by_architecture(&self) -> &BTreeMap<String, String> {
        &self.by_architecture
    }

    /// Where the agent with this hash lies in the package, if it is one of them.
    pub fn path(&self, sha256: &str) -> Option<PathBuf> {
        let known = self.by_architecture.values().any(|known| known == sha256);
        known.then(|| self.directory.join("agents").join(sha256))
    }
}

/// Whether `text` is 64 lower-case hex digits: only then it may become part of a key.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
