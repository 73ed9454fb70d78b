//! What the tests of stages stand on: jobs with their contexts, and a server that says what a test wants.

mod http;
mod job;

pub(super) use http::{Answer, Request, serve};
pub(super) use job::{Job, context};
