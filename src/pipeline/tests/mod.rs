//! The reader as its callers use it: a text, an event, and the jobs that come of it.

mod events;
mod jobs;
mod mistakes;
mod support;
