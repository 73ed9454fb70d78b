//! `mayfly run`: the pipeline of any repository, on this machine, by the code of production.

mod artifacts;
mod console;
mod follow;
mod json;
mod list;
mod local;
mod options;
mod place;
mod progress;
mod report;
mod select;
mod summary;
mod teller;

pub(super) use options::Run;
