//! Mayfly runs GitLab CI jobs on AWS with nothing left on.

pub mod gitlab;
pub mod telemetry;
