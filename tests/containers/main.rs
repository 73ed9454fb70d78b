//! Jobs in real containers, made by podman or Docker from the task definition that was registered.
//!
//! Needs root and an engine (`.ci/engine` starts podman's) with the images that `.ci/images` builds. Without an engine the
//! tests say so and pass; where `MAYFLY_NEED_CONTAINERS` is set, as in CI, they fail.
#![cfg(feature = "sandbox")]
#![allow(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]

mod command;
mod engine;
mod jobs;
#[path = "../compat/run.rs"]
#[allow(dead_code, reason = "the compatibility tests use the rest")]
mod run;
mod services;
#[path = "../stories/support.rs"]
#[allow(dead_code, reason = "the stories use the rest")]
mod support;
mod tasks;
#[path = "../sandbox_ecs/world.rs"]
#[allow(dead_code, reason = "the tests of processes use the rest")]
mod world;
