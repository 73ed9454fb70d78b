//! The commands of `mayfly`.

mod agent;
mod clean;
mod demo;
mod exit;
mod interrupts;
mod preview;
mod run;
mod sandbox;
mod screen;
mod source;
mod trace_lines;
mod words;

use clap::{Parser, Subcommand};

pub use exit::ExitCode;

/// A serverless GitLab runner for AWS: a webhook rings, a Fargate task runs the job, nothing stays on.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 all went well, 1 a job or the command failed, 2 wrong usage or an unreadable pipeline."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole way of a job on this machine: hook, claim, size, task, log, cache, price. Needs no account.
    Demo(demo::Demo),
    Run(run::Run),
    Preview(preview::Preview),
    Check(preview::Check),
    Sandbox(sandbox::SandboxCommand),
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Demo(demo) => demo.run().await,
            Command::Run(run) => run.run().await,
            Command::Preview(preview) => preview.run().await,
            Command::Check(check) => check.run().await,
            Command::Sandbox(sandbox) => sandbox.run().await,
        }
    }
}
