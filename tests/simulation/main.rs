//! Many jobs on a clock that nobody waits for: GitLab, ECS, S3 and the functions run in one thread over real HTTP, and
//! time passes only where all of them wait. A run is one seed; the same seed draws the same faults.
//!
//! `MAYFLY_SIMULATION_JOBS` and `MAYFLY_SIMULATION_SEED` choose another run than CI's.
#![cfg(feature = "sandbox")]
#![allow(clippy::print_stdout, reason = "a run shows its figures")]

#[path = "../stories/support.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod support;

mod bursts;
mod faults;
mod helper;
mod live_jobs;
mod random;
mod report;
mod world;
