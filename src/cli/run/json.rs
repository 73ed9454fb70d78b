//! Writes what came of a run for machines.
//!
//! ```text
//! { "status": "success", "passed": true, "seconds": 12.3, "dollars": 0.0016,
//!   "event": "a push to `main`", "commit": "<sha>",
//!   "jobs": [ { "name", "stage", "status", "allow_failure", "seconds", "size": { "vcpus", "memory_gib", "disk_gib",
//!               "arch", "spot" }, "dollars", "cache_hit", "failure_reason", "exit_code", "log", "artifacts" } ],
//!   "paths": { "artifacts": "<dir>", "logs": "<dir>", "cache": "<dir>" } }
//! ```
//!
//! `status` is GitLab's word; whatever does not apply is null. An error is `{ "error": "<sentence>" }`.

use serde_json::{Value, json};

use super::report::{JobReport, RunReport};

/// The document.
pub(super) fn document(report: &RunReport) -> Value {
    json!({
        "status": report.status,
        "passed": report.passed(),
        "seconds": report.seconds,
        "dollars": report.dollars(),
        "event": report.event,
        "commit": report.commit,
        "jobs": report.jobs.iter().map(job).collect::<Vec<_>>(),
        "paths": { "artifacts": report.artifacts, "logs": report.logs, "cache": report.cache },
    })
}

fn job(job: &JobReport) -> Value {
    let size = job.plan.as_ref().map(|plan| {
        json!({
            "vcpus": plan.size.vcpus(),
            "memory_gib": plan.size.memory_gib(),
            "disk_gib": plan.disk_gib.unwrap_or(20),
            "arch": plan.arch,
            "spot": plan.spot,
        })
    });
    json!({
        "name": job.name,
        "stage": job.stage,
        "status": job.status,
        "allow_failure": job.may_fail,
        "seconds": job.seconds,
        "size": size,
        "dollars": job.dollars,
        "cache_hit": job.cache_hit,
        "failure_reason": job.failure_reason,
        "exit_code": job.exit_code,
        "log": job.log,
        "artifacts": job.artifacts,
    })
}
