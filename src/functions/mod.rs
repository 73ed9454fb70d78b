//! The three functions: webhook, dispatcher, broker. Plain async functions over our own event types.
//!
//! Each gets its secrets through a value that can be refreshed, the time from [`Now`], and sends messages through
//! [`SendLater`]: queue, clock and secrets are wired by the caller.

mod broker;
mod dispatcher;
mod event;
mod follow_ups;
mod readers;
mod secrets;
mod timeouts;
mod webhook;

pub use broker::{Broker, BrokerAnswer, BrokerRequest, not_ready};
pub use dispatcher::{Dispatcher, Handled};
pub use event::{Event, Later, Message};
pub use follow_ups::SendLater;
pub(crate) use readers::is_sha256;
pub use readers::{
    FleetReader, NotReady, PackedAgents, RunnerTokens, SecretReader, runner_tokens, signing_key, webhook_secrets,
};
pub use secrets::{BrokerKeys, DispatcherSecrets, Refreshable, RereadKeys};
pub use timeouts::aws_timeouts;
pub use webhook::{WebhookAnswer, answer_hook};

/// Where a function gets the time from.
pub type Now = std::sync::Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
