//! `mayfly preview` and `mayfly check`: what Mayfly would make of a pipeline's jobs, without running one.

mod asked;
mod check;
mod command;
mod fleet;
mod forecast;
mod options;
mod table;

pub(super) use options::{Check, Preview};
