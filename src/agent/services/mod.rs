//! The job's services as its script meets them: their names, the wait until they answer, and how they ended
//! (runner-behaviour.md §8.2).

mod hosts;
mod logs;
mod ready;
mod stage;

pub(super) use hosts::add as add_hosts;
pub(super) use logs::ServiceLogs;
pub(super) use stage::Services;
