//! The fleet configuration: which runners there are, and what their jobs may use.
//!
//! A person writes `fleet.toml`; what the stack tells of itself is completed from its functions' environment.

mod document;
mod fleet;
mod refused;
mod settings;
mod stack;

pub use fleet::{
    Broker, Bucket, Cache, Fleet, FleetError, Images, LaunchLimits, Registry, Runner, RunnerCache, SizeLimits, Tasks,
};
pub use settings::JobSettings;
pub use stack::{STACK_VARIABLE, Stack, StackError};
