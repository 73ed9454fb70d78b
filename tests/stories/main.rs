//! Stories as GitLab sees them: a pipeline is run in a sandbox, and jobs end as they should.
#![cfg(feature = "sandbox")]
#![allow(clippy::print_stdout, reason = "a run shows its figures")]

mod bad_input;
mod bursts;
mod dispatch;
mod failure_logs;
mod faults;
mod files;
mod jobs;
mod requests;
mod support;
mod throughput;
mod tickets;
