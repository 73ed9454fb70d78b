//! Gets the sources: the repository at the job's commit, its LFS files and its submodules (runner-behaviour.md §4).

mod directory;
mod home;
mod hooks;
mod native_clone;
mod repository;
mod settings;
mod stage;
mod submodules;

pub use super::git::git_environment;
pub use stage::{clear_worktree, get_sources};

#[cfg(test)]
mod tests;
