//! What came of a run, as data: the summary and the JSON document are made of it.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::ledger::JobKey;
use crate::plan::{Plan, price_per_minute};
use crate::sandbox::Sandbox;
use crate::sandbox::gitlab::JobHandle;

/// Fargate bills seconds, a minute at least (aws.md §8).
const LEAST_BILLED_SECONDS: f64 = 60.0;

/// A run that is over.
#[derive(Debug)]
pub(super) struct RunReport {
    /// The pipeline's status in GitLab's words.
    pub(super) status: String,
    /// The event in words.
    pub(super) event: String,
    /// The commit that ran.
    pub(super) commit: String,
    /// The region that prices hold for.
    pub(super) region: String,
    /// Whether the user stopped it.
    pub(super) canceled: bool,
    /// From start to end.
    pub(super) seconds: f64,
    /// The jobs, in the order of the file.
    pub(super) jobs: Vec<JobReport>,
    /// Where the artifacts lie.
    pub(super) artifacts: PathBuf,
    /// Where the logs lie.
    pub(super) logs: PathBuf,
    /// Where the cache lies.
    pub(super) cache: PathBuf,
}

/// What came of one job.
#[derive(Clone, Debug, Default)]
pub(super) struct JobReport {
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) status: String,
    /// A failure is only a warning.
    pub(super) may_fail: bool,
    pub(super) seconds: Option<f64>,
    /// What was planned for it; none if it never came so far.
    pub(super) plan: Option<Plan>,
    /// What Fargate would have asked.
    pub(super) dollars: Option<f64>,
    /// Whether a cache was found; none if it wanted none.
    pub(super) cache_hit: Option<bool>,
    pub(super) failure_reason: Option<String>,
    pub(super) exit_code: Option<i64>,
    /// The last lines of its log.
    pub(super) tail: Vec<String>,
    pub(super) log: Option<PathBuf>,
    pub(super) artifacts: Option<PathBuf>,
}

impl RunReport {
    /// Whether nothing failed that may not fail.
    pub(super) fn passed(&self) -> bool {
        let is_good = matches!(self.status.as_str(), "success" | "manual" | "skipped");
        is_good && !self.canceled && !self.jobs.iter().any(JobReport::is_failure)
    }

    /// What all jobs together would have cost.
    pub(super) fn dollars(&self) -> Option<f64> {
        self.jobs.iter().filter_map(|job| job.dollars).reduce(|sum, dollars| sum + dollars)
    }
}

impl JobReport {
    /// What came of `job`, as far as GitLab and the ledger know it.
    pub(super) async fn of(job: &JobHandle, sandbox: &Sandbox) -> JobReport {
        let plan = plan(job, sandbox).await;
        let seconds = job.started_at().map(|_| seconds(job));
        let price =
            plan.as_ref().and_then(|plan| price_per_minute(&sandbox.fleet.region, plan.size, plan.arch, plan.disk_gib));
        let dollars = price.zip(seconds).map(|(p, seconds)| p.per_minute / 60.0 * seconds.max(LEAST_BILLED_SECONDS));
        JobReport {
            name: job.name(),
            stage: job.stage(),
            may_fail: job.may_fail(),
            status: job.status(),
            seconds,
            plan,
            dollars,
            cache_hit: cache_hit(&job.trace()),
            failure_reason: job.failure_reason(),
            exit_code: job.exit_code(),
            ..JobReport::default()
        }
    }

    /// Whether it failed, and may not.
    pub(super) fn is_failure(&self) -> bool {
        self.status == "failed" && !self.may_fail
    }
}

/// Whether a job with this status does nothing more.
pub(super) fn is_over(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped")
}

/// How long `job` ran, or has run so far.
pub(super) fn seconds(job: &JobHandle) -> f64 {
    let end = job.finished_at().unwrap_or_else(Timestamp::now);
    job.started_at().map_or(0.0, |start| end.duration_since(start).as_secs_f64().max(0.0))
}

async fn plan(job: &JobHandle, sandbox: &Sandbox) -> Option<Plan> {
    let instance = sandbox.gitlab.url().parse().ok()?;
    let record = sandbox.deployment.ledger().record(&JobKey::new(&instance, job.id())).await.ok()??;
    record.value.plan
}

/// The agent says what became of each cache it looked for.
fn cache_hit(trace: &[u8]) -> Option<bool> {
    let trace = String::from_utf8_lossy(trace);
    if trace.contains("Successfully extracted cache") {
        return Some(true);
    }
    trace.contains("Checking cache for ").then_some(false)
}
