//! The offline twin: GitLab, ECS and S3 on loopback, over real HTTP.

pub mod clock;
pub mod ecs;
pub mod gitlab;
pub mod s3;
pub mod traffic;
