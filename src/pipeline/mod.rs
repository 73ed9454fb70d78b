//! Reads a `.gitlab-ci.yml` as GitLab does, into the jobs that one event makes of it.
//!
//! Pure: text in, jobs out; what else it must know of the repository it asks its [`Request`]. On the way a file is
//! composed to nodes that know their line and filled with its inputs (`file`), merged with what it includes, resolved
//! (`extends`, `reference`), judged by GitLab's schema, read job by job (`definition`), and held against the event
//! (`create`). Keywords that act in GitLab alone are named once; what cannot be done here is refused by name and line.

mod cache_key;
mod condition;
mod create;
mod definition;
mod duration;
mod error;
mod expand;
mod expression;
mod extends;
mod file;
mod glob;
mod include;
mod inputs;
mod job;
mod json;
mod keywords;
mod matrix;
mod merge;
mod nearest;
mod needs;
mod node;
mod only;
mod parts;
mod reference;
mod release;
mod request;
mod rules;
mod schema;
mod scope;
mod yaml;

#[cfg(test)]
mod tests;

pub use create::create;
pub use error::ReadError;
pub use expand::expanded;
pub use job::{
    AllowFailure, Artifacts, Cache, Environment, Image, Job, Need, Node, Pipeline, Release, Retry, Service, Variable,
    When,
};
pub use nearest::nearest;
pub use request::{Ask, Request, Tree};
