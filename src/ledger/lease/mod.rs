//! The lease object: which invocation may claim and launch, and what one holder passes to the next.
//!
//! Pure: every function takes the time. Only the holder writes the object; everybody else leaves a
//! [`Wish`](super::Wish).

mod holds;
mod launch_rate;
#[expect(clippy::module_inception, reason = "the lease is what this module describes")]
mod lease;
mod poll_pace;
mod waiting;

pub use holds::{Admission, Class, Holds};
pub use launch_rate::{LaunchQuota, LaunchRate};
pub use lease::{LEASE_LASTS, Lease, Taken};
pub use poll_pace::{POLL_SPACING, PollPace, PollStart};
pub use waiting::{Waiting, WaitingJob};
