//! Pure: a stopped task and its record become an outcome, another launch, or nothing.

mod cause;
#[expect(clippy::module_inception, reason = "settling is what this module does")]
mod settle;

pub use cause::{Cause, cause};
pub use settle::{MOST_TASKS, Settlement, settle, settle_missing};
