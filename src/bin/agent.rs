//! The program in the task: `agent helper` beside the job, `agent build` in the job's image.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use mayfly::agent::build::{BuildSettings, build};
use mayfly::agent::helper::{HelperSettings, helper};
use mayfly::agent::secrets_pipe::{FROM_PIPE, LaunchSecrets};
use mayfly::ledger::wire::HelperExit;
use tracing::error;
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: agent helper | build | --version";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("MAYFLY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().compact().with_ansi(false).with_writer(io::stderr).with_env_filter(filter).init();
    match run() {
        Ok(code) => code,
        Err(error) => {
            error!("{error:#}");
            ExitCode::from(HelperExit::Misconfigured.code())
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["helper"] => Err(LaunchSecrets::restart(&["helper"]).into()),
        ["helper", FROM_PIPE] => {
            let secrets = LaunchSecrets::read()?;
            let broker_url = env::var("MAYFLY_BROKER_URL").context("`MAYFLY_BROKER_URL` is not set")?;
            let broker_url = broker_url.parse().context("`MAYFLY_BROKER_URL` is no URL")?;
            let settings = HelperSettings { broker_url, builds_dir: builds_dir(), agent_dir: agent_dir() };
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let exit = runtime.block_on(helper(settings, secrets));
            // A walk that was cut may still run in the background; the job has ended, and the task with it.
            runtime.shutdown_background();
            Ok(ExitCode::from(exit.code()))
        }
        // One thread: children are waited for where they are started.
        ["build"] => {
            let settings = BuildSettings { builds_dir: builds_dir(), agent_dir: agent_dir() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(build(settings))?;
            // Output that nobody takes any more may still be read in the background.
            runtime.shutdown_background();
            Ok(ExitCode::SUCCESS)
        }
        ["--version"] => {
            use io::Write;
            writeln!(io::stdout(), "agent {}", env!("CARGO_PKG_VERSION"))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{USAGE}"),
    }
}

fn builds_dir() -> PathBuf {
    directory("MAYFLY_BUILDS_DIR", "/builds")
}

fn agent_dir() -> PathBuf {
    directory("MAYFLY_AGENT_DIR", "/mayfly")
}

fn directory(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).filter(|path| !path.is_empty()).map_or_else(|| default.into(), PathBuf::from)
}
