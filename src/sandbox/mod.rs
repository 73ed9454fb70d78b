//! The offline twin: GitLab, ECS and S3 on loopback, over real HTTP.

pub mod clock;
pub mod gitlab;
pub mod traffic;
