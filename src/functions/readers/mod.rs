//! What functions read from AWS while they are warm: the fleet, secrets, and the agents in their own package.
//!
//! Each reader keeps its last good value: a reading that fails is logged and takes nothing away.

mod agents;
mod fleet;
mod not_ready;
mod runner_tokens;
mod secret;
mod webhook_secret;

pub use agents::PackedAgents;
pub(crate) use agents::is_sha256;
pub use fleet::FleetReader;
pub use not_ready::NotReady;
pub use runner_tokens::{RunnerTokens, runner_tokens};
pub use secret::{SecretReader, signing_key};
pub use webhook_secret::webhook_secrets;
