//! Jobs behave as under GitLab Runner's Kubernetes executor: each row of the README's compatibility table names a test
//! here, which runs a job through the sandbox and asserts on what GitLab has of it.
#![cfg(feature = "sandbox")]

mod archives;
mod artifacts;
mod cache;
mod images;
mod jobs;
mod keepers;
mod lifecycle;
mod log;
mod planted;
#[allow(dead_code, reason = "the tests in containers use the rest")]
mod run;
mod secrets;
mod services;
mod settings;
mod sources;
mod submodules;
#[path = "../stories/support.rs"]
#[allow(dead_code, reason = "the stories use the rest")]
mod support;
mod table;
#[path = "../support/tiny_http.rs"]
mod tiny_http;
mod variables;
