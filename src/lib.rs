//! Mayfly runs GitLab CI jobs on AWS with nothing left on.

pub mod agent;
pub mod cache;
#[cfg(feature = "sandbox")]
pub mod cli;
pub mod config;
#[cfg(feature = "aws")]
pub mod functions;
pub mod gitlab;
pub mod launch;
pub mod ledger;
#[cfg(feature = "sandbox")]
pub mod pipeline;
pub mod plan;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod settle;
pub mod telemetry;
