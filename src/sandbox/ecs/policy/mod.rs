//! IAM's policies: reads them, and decides what they allow. Pure.
//!
//! Only the part of IAM's language that a policy of ours may use; whatever else a policy says is an error, and an error
//! denies.

mod condition;
mod decide;
mod document;
mod pattern;

pub(super) use condition::Keys;
pub(super) use decide::{Ask, Decided, Outcome, Policy, decide};
pub(super) use document::Kind;
