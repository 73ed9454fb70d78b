//! The agent in the task: `helper` brings and takes everything, `build` runs the scripts in the job's image.

pub mod artifacts;
pub mod cache_stage;
pub mod files;
pub mod sources;

mod attempts;
mod automaton;
pub mod broker_client;
pub mod build;
#[cfg(test)]
mod cache_stage_tests;
mod child;
pub mod context;
mod durations;
pub mod exit;
mod file_variables;
mod flow;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod git;
pub mod helper;
mod link;
pub mod log;
mod mask;
mod memory;
mod output;
mod ownership;
mod process;
mod program;
mod redact;
mod scripts;
pub mod secrets_pipe;
pub mod section;
mod setup;
mod shell;
mod signals;
mod stages;
mod task_variables;
#[cfg(test)]
mod testing;
mod timeouts;
mod tokens;
pub mod trace;
mod tree;
mod urls;
mod utf8;
