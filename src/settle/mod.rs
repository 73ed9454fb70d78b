//! Pure: a stopped task and its record become an outcome, another launch, or nothing.

mod cause;
#[cfg(test)]
mod cause_tests;
mod exit_codes;
mod failed_container;
mod phrases;
mod pull;
mod resources;
#[expect(clippy::module_inception, reason = "settling is what this module does")]
mod settle;
mod start;

pub use cause::{Cause, cause};
pub use settle::{MOST_TASKS, Settlement, settle, settle_missing};
