//! The agent in the task: `helper` brings and takes everything, `build` runs the scripts in the job's image.

pub mod artifacts;
pub mod cache_stage;
pub mod files;
pub mod sources;

mod attempts;
pub mod broker_client;
pub mod build;
#[cfg(test)]
mod cache_stage_tests;
mod child;
pub mod context;
mod durations;
mod file_variables;
mod flow;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod git;
pub mod helper;
mod link;
pub mod log;
mod memory;
mod metadata;
mod output;
mod ownership;
mod process;
mod program;
mod scripts;
mod secrets;
pub mod secrets_pipe;
pub mod section;
mod services;
mod setup;
mod shell;
mod signals;
mod stages;
mod summary;
mod task_variables;
#[cfg(test)]
mod testing;
mod timeouts;
pub mod trace;
mod tree;
mod utf8;
