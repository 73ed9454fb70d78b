//! The dispatcher: claims waiting jobs, launches their tasks, and settles those whose task could not.
//!
//! It alone sees claim, plan, ledger, launch and settle together. Every step can be repeated; what must not be lost is
//! in the ledger before the next step. If an invocation dies at any point, a redelivered message or the next tick
//! resumes its work.
//!
//! `events` reads messages. What only one invocation at a time may do is asked of the `lease_holder`: it polls runners
//! (`claiming`), plans their jobs (`planning`) and launches tasks (`launching`) as far as `admission` allows.
//! `reconciling` and `settling` need no lease.

mod admission;
mod after_run_task;
mod claiming;
#[expect(clippy::module_inception, reason = "the dispatcher is what this module makes")]
mod dispatcher;
mod error;
mod events;
mod job_trace;
mod launching;
mod lease_holder;
mod lease_lock;
mod lines;
mod planning;
mod reconcile_step;
mod reconciling;
mod reporting;
mod scheduling;
mod settling;
mod wants;
mod work;

use dispatcher::{AT_ONCE, Batch};
pub use dispatcher::{Dispatcher, Handled};
