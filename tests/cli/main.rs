//! The commands as people and CI call them: the real program on repositories of the user's.

mod cancel;
mod event;
mod pipelines;
mod preview;
mod run;
mod stack_aws;
mod stand_ins;
mod support;
mod usage;
