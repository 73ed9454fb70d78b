//! Starts and stops tasks: task definitions, `RunTask`, `StopTask`.

mod definition;
#[cfg(feature = "aws")]
mod ecs;
#[cfg(feature = "aws")]
mod registrations;
mod run_task;
#[cfg(feature = "aws")]
mod sdk_definition;

pub use crate::plan::{BUILD, HELPER, service_name};
pub use definition::{ContainerDefinition, Definition, definition};
#[cfg(feature = "aws")]
pub use ecs::{Described, Ecs, EcsError, Launched, RefusalKind};
pub use run_task::{ContainerOverride, LaunchFacts, RunTask, run_task};
