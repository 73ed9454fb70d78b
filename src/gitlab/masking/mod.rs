//! Keeps secrets out of a job's log: values of masked variables, parameters of URLs, tokens by their prefixes
//! (runner-behaviour.md §7.2). Every writer of a trace uses it.

mod automaton;
mod filter;
mod masker;
mod redact;
mod tokens;
mod urls;

pub use filter::{Filter, Masking};
