//! Owns the options of `mayfly preview` and `mayfly check`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::source::EventOptions;

/// Show what Mayfly would make of every job: image, size, capacity, price, and what Fargate would refuse.
#[derive(Debug, Args)]
pub(in crate::cli) struct Preview {
    #[command(flatten)]
    pub(super) what: What,
}

/// Say whether Fargate would refuse a job, or a tag is misspelt.
///
/// Exit codes for CI: 0 nothing to say, 1 something would be refused or is misspelt, 2 the pipeline cannot be read.
#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    #[command(flatten)]
    pub(super) what: What,
}

/// Which pipeline, and for which fleet.
#[derive(Debug, Args)]
pub(super) struct What {
    /// The pipeline's file; the repository's `.gitlab-ci.yml` without it
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// A fleet configuration, for its region, ceilings, defaults and images; Fargate's own limits without it
    #[arg(long, value_name = "FILE")]
    pub(super) fleet: Option<PathBuf>,
    /// The runner of the fleet that takes the jobs; its first without it
    #[arg(long, value_name = "NAME", requires = "fleet")]
    pub(super) runner: Option<String>,
    /// Print one JSON document, and nothing else
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) event: EventOptions,
}
