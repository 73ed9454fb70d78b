//! What we know about claimed jobs: claims, records and their phases, the lease, tickets, grants.
//!
//! GitLab's queue is the truth about jobs, ECS about tasks; the ledger joins them. Every change of an object is a
//! compare-and-swap, so whoever dies half-way leaves either the old state or the new one.

pub mod keys;
pub mod wire;

mod grant;
mod helper_exit;
mod job_key;
mod lease;
#[cfg(feature = "aws")]
#[expect(clippy::module_inception, reason = "the ledger is what this module keeps")]
mod ledger;
mod record;
mod stopped;
#[cfg(feature = "aws")]
mod store;
mod ticket;
mod wish;

pub use grant::{CacheGrant, Grant};
pub use job_key::JobKey;
pub use lease::{
    Admission, Class, Holds, LEASE_LASTS, LaunchQuota, LaunchRate, Lease, POLL_SPACING, PollPace, PollStart, Taken,
    Waiting, WaitingJob,
};
#[cfg(feature = "aws")]
pub use ledger::{Claim, ClaimFacts, Ledger, LedgerError, Listing, Stored};
pub use record::{Attempt, Decision, LaunchState, OpenRefused, Phase, Record, WrongPhase};
pub use stopped::{StoppedContainer, StoppedTask, read_event};
#[cfg(feature = "aws")]
pub use store::{Store, StoreError, Version};
pub use ticket::Ticket;
pub use wish::Wish;
