//! A stand-in for Amazon ECS on Fargate: its API, its task metadata endpoint, and tasks that really run.
//!
//! Built from aws.md §1 to §3, and from nothing of ours but the clock and the record of traffic. It refuses what ECS and
//! Fargate refuse; our own clients are also refused what ECS would only ignore. Tasks are
//! [containers](Runtime::Containers), [local processes](Runtime::Processes), or [played by a
//! closure](Runtime::Simulated).

mod access;
mod container_rules;
mod containers;
mod definition_rules;
mod definitions;
mod engine;
mod engine_container;
mod environment;
mod family;
mod faults;
mod host;
mod http;
mod json;
mod lifecycle;
mod logs;
mod machine;
mod metadata;
mod namespace;
mod options;
mod override_rules;
mod paging;
mod permissions;
mod policy;
mod processes;
mod providers;
mod refusal;
mod relay;
mod rooms;
mod run_task;
mod server;
mod shape;
mod simulated;
mod size;
mod state;
mod task;
mod tasks;
mod throttle;

pub use access::{Access, Asker, Callers, Principal, ReadBucketPolicy, ReadPolicies, Record};
pub use faults::{Faults, When};
pub use options::{FetchS3, FetchSecret, Options, Place, Runtime};
pub use server::{ContainerView, Ecs, TaskView};
pub use simulated::{Ending, Simulate, SimulatedTask};
