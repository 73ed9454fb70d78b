//! Owns the options of `mayfly run`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::source::EventOptions;

/// Run a repository's pipeline on this machine, as GitLab and Mayfly would: uncommitted changes included.
///
/// The repository is not touched. Jobs run as processes of this machine, whatever their `image:` says, or, with
/// `--containers`, in their images beside their services. Without JOB all jobs run that start by themselves; with it
/// these, and the jobs whose artifacts they need.
#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    /// Jobs to run; a manual one starts when it is named
    #[arg(value_name = "JOB")]
    pub(super) wanted: Vec<String>,
    /// The repository, or a directory in it
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
    /// Show the jobs that the pipeline would have, and run none
    #[arg(long)]
    pub(super) list: bool,
    /// Print one JSON document at the end, and nothing else
    #[arg(long)]
    pub(super) json: bool,
    /// Show all lines of the jobs' logs, not only the scripts' own
    #[arg(long)]
    pub(super) full_log: bool,
    /// Jobs that run at once; as many as there are processors, and 4 at least, without it
    #[arg(long = "jobs", short = 'j', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) at_once: Option<u32>,
    /// Put artifacts below DIR, a directory a job
    #[arg(long, value_name = "DIR")]
    pub(super) artifacts: Option<PathBuf>,
    /// Start without the cache of earlier runs
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Run jobs and their services in containers of podman or Docker; needs root and a static agent
    #[arg(long)]
    pub(super) containers: bool,
    /// The static agent for containers, as `make agent` builds it; the one beside this program without it
    #[arg(long, value_name = "FILE", requires = "containers")]
    pub(super) agent: Option<PathBuf>,
    /// The image of the container that gets sources, cache and artifacts: git, wget and sh
    #[arg(long, value_name = "IMAGE", requires = "containers")]
    pub(super) helper_image: Option<String>,
    #[command(flatten)]
    pub(super) event: EventOptions,
}
