//! Mayfly runs GitLab CI jobs on AWS with nothing left on.

pub mod config;
pub mod gitlab;
pub mod ledger;
pub mod plan;
pub mod telemetry;
