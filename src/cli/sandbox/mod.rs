//! `mayfly sandbox`: GitLab and ECS on this machine, for trying a deployed stack without either.

mod follow;
mod options;
mod project;
mod ready;
mod start;

pub(super) use options::SandboxCommand;
