//! The offline twin: GitLab, ECS and S3 on loopback, over real HTTP, with Mayfly's functions wired between them.
//!
//! The servers use nothing of ours; the functions are those of production, pointed at other URLs.

pub mod clock;
pub mod ecs;
pub mod gitlab;
pub mod s3;
pub mod stack;
pub mod traffic;

mod aws;
mod deployment;
mod fleet;
mod function_urls;
mod invocations;
mod queue;
#[expect(clippy::module_inception, reason = "the sandbox is what this module starts")]
mod sandbox;
mod world;

pub use deployment::Deployment;
pub use queue::{Message, Queue};
pub use sandbox::{Sandbox, SandboxError, Settings};
