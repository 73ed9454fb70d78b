//! Finds the files that a job wants to keep, for its caches and artifacts (runner-behaviour.md §6.2).
//!
//! Everything is looked up beneath the project directory; symlinks are found, and never followed by a walk.

mod expand;
mod helper_line;
mod pattern;
mod select;
mod untracked;

pub use expand::shell_expand;
pub use helper_line::{HelperLine, one_line, say, say_with};
pub use pattern::beneath;
pub use select::{SelectError, Selection, Wanted, select};
