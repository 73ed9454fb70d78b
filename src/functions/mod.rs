//! The three functions: webhook, dispatcher, broker. Plain async functions over our own event types.
//!
//! Each gets its secrets through a value that can be refreshed, takes the time from [`Now`], and returns the messages to
//! send: queue, clock and secrets are somebody else's wiring.

mod broker;
mod dispatcher;
mod event;
mod secrets;
mod timeouts;
mod webhook;

pub use broker::{Broker, BrokerAnswer, BrokerRequest};
pub use dispatcher::{Dispatcher, Handled};
pub use event::{Event, Later};
pub use secrets::{BrokerKeys, DispatcherSecrets, Refreshable};
pub use timeouts::aws_timeouts;
pub use webhook::{WebhookAnswer, answer_hook};

/// Where a function gets the time from.
pub type Now = std::sync::Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;
