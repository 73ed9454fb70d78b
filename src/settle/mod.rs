//! Pure: a stopped task and its record become an outcome, another launch, or nothing.

mod cause;
#[cfg(test)]
mod cause_tests;
mod exits;
mod pull;
#[expect(clippy::module_inception, reason = "settling is what this module does")]
mod settle;
mod words;

pub use cause::{Cause, cause};
pub use settle::{MOST_TASKS, Settlement, settle, settle_missing};
