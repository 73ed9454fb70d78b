//! The dispatcher: claims waiting jobs, launches their tasks, and settles those whose task could not.
//!
//! It alone sees claim, plan, ledger, launch and settle together. Everything it does can be repeated; what it must not
//! forget is in the ledger before it acts. Dies it at any point, a redelivered message or the next tick goes on.

#[expect(clippy::module_inception, reason = "the dispatcher is what this module makes")]
mod dispatcher;
mod error;
mod hints;
mod launching;
mod leased;
mod lines;
mod live;
mod look;
mod planning;
mod say;
mod stopped;
mod trace;

use dispatcher::{AT_ONCE, Wanted};
pub use dispatcher::{Dispatcher, Handled};
