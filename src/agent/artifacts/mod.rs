//! Brings the artifacts of earlier jobs, and hands this job's to GitLab (runner-behaviour.md §6).

mod download;
mod exchange;
mod pack;
mod pipe;
mod provenance;
mod upload;

pub use download::download_artifacts;
pub use upload::upload_artifacts;

#[cfg(test)]
mod download_tests;
#[cfg(test)]
mod upload_tests;
