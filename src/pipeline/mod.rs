//! Reads a small `.gitlab-ci.yml` into the jobs that GitLab makes of it.
//!
//! Pure: text in, jobs out. What it does not read it refuses by name and line, so that no keyword is ever ignored.

mod duration;
mod error;
mod job;
mod keywords;
mod node;
mod parts;
mod read;
mod request;
mod yaml;

pub use error::ReadError;
pub use job::{
    AllowFailure, Artifacts, Cache, Environment, Image, Job, Need, Node, Pipeline, Retry, Service, Variable, When,
};
pub use read::{create, read};
pub use request::{Request, Tree};
