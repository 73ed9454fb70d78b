//! Owns the options of `mayfly sandbox`.

use std::path::PathBuf;

use clap::Args;

use crate::sandbox::stack::Caller;

/// Run stand-ins for GitLab and ECS, so that a deployed stack can be tried without GitLab or AWS.
///
/// Both listen on 127.0.0.1 only. Pipelines are started and watched with GitLab's own API and the tokens that are
/// printed. Tasks run as processes of this machine. SIGINT or SIGTERM stops it and everything that it has started.
#[derive(Debug, Args)]
pub(in crate::cli) struct SandboxCommand {
    /// Create a project from the git repository at DIR; each pipeline runs the branch's newest commit
    #[arg(long, value_name = "DIR")]
    pub(super) project: Option<PathBuf>,
    /// Start a pipeline of the project's branch at once
    #[arg(long, requires = "project")]
    pub(super) pipeline: bool,
    /// Send the project's job and pipeline hooks to URL; a function URL is translated for --aws-endpoint
    #[arg(long, value_name = "URL", requires = "project")]
    pub(super) hook_url: Option<String>,
    /// The hooks' secret token
    #[arg(long, value_name = "TOKEN", requires = "hook_url")]
    pub(super) hook_token: Option<String>,
    /// Print one line of JSON when everything is ready, and nothing else
    #[arg(long)]
    pub(super) json: bool,
    /// The port of GitLab [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(super) gitlab_port: u16,
    /// The port of ECS [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(super) ecs_port: u16,
    /// The stack's region
    #[arg(long, value_name = "REGION", default_value = "us-east-1")]
    pub(super) region: String,
    /// The stack's account
    #[arg(long, value_name = "ACCOUNT", default_value = "123456789012", value_parser = account)]
    pub(super) account: String,
    /// The name of the stack's cluster
    #[arg(long, value_name = "NAME", default_value = "mayfly")]
    pub(super) cluster: String,
    /// The AWS that the stack is deployed to, for tasks' secrets, environment files and function URLs
    ///
    /// Requests are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, or `test`.
    #[arg(long, value_name = "URL")]
    pub(super) aws_endpoint: Option<String>,
    /// Send the events of stopped tasks to this queue, as EventBridge does on AWS
    #[arg(long, value_name = "QUEUE_URL", requires = "aws_endpoint")]
    pub(super) stops_queue: Option<String>,
    /// Enforce the policies of callers and of execution roles, which are read from the IAM at URL
    #[arg(long, value_name = "URL", requires = "callers")]
    pub(super) iam: Option<String>,
    /// A function that calls ECS, and its role; repeatable
    #[arg(long = "caller", value_name = "FUNCTION_ARN=ROLE_ARN", requires = "iam")]
    pub(super) callers: Vec<Caller>,
    /// Append each authorization decision to FILE as a line of JSON
    #[arg(long, value_name = "FILE", requires = "iam")]
    pub(super) decisions: Option<PathBuf>,
    /// Also run a stand-in for S3, with this bucket; repeatable
    ///
    /// It accepts AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, or `test`.
    #[arg(long = "bucket", value_name = "NAME")]
    pub(super) buckets: Vec<String>,
    /// Run tasks in containers of podman or Docker; needs root
    #[arg(long)]
    pub(super) containers: bool,
}

fn account(text: &str) -> Result<String, String> {
    let is_account = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_account { Ok(text.to_owned()) } else { Err("an account has 12 digits".to_owned()) }
}
