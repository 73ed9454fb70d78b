//! The command line of Mayfly.

use clap::Parser;
use mayfly::cli::Cli;
use mayfly::telemetry::{self, LogForm};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    telemetry::init(LogForm::Text, "off");
    cli.run().await.into()
}
