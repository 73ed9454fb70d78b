//! The sandbox's GitLab as its clients see it: plain HTTP and real git.
#![cfg(feature = "sandbox")]

mod artifacts;
mod claims;
mod conformance;
mod events;
mod faults;
mod git;
mod hooks;
mod pipelines;
mod strict;
mod stuck;
mod support;
mod traces;
mod updates;
