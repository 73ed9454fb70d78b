//! The broker: hands out the agent, opens tickets, and mints access to exactly one job's cache objects.

mod agent;
#[expect(clippy::module_inception, reason = "the broker is what this module makes")]
mod broker;
mod cache;
mod open;
mod service_logs;

pub use broker::{Broker, BrokerAnswer, BrokerRequest, not_ready};
use broker::{URL_SECONDS, answer, refuse, unavailable};
