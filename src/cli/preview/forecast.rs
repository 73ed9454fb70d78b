//! Says what Mayfly would make of a job, by the code that makes it.

use serde_json::{Value, json};

use crate::cli::source::ReadJob;
use crate::config::{Fleet, Runner};
use crate::gitlab::{Job, Outcome, unsupported};
use crate::plan::{Plan, plan, price_per_minute};

use super::asked::asked;

/// What would become of one job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forecast {
    pub(super) job: String,
    pub(super) stage: String,
    /// Expanded where the job is planned, else as written.
    pub(super) image: Option<String>,
    /// In the job's words.
    pub(super) asked: Option<String>,
    /// The task, or the sentence by which the job is refused.
    pub(super) plan: Result<Plan, String>,
    /// Dollars a minute on demand; none where the region's prices are not known.
    pub(super) per_minute: Option<f64>,
}

impl Forecast {
    /// The forecast for `read` on `runner`.
    pub(super) fn of(read: &ReadJob, fleet: &Fleet, runner: &Runner) -> Forecast {
        let mut forecast = Forecast {
            job: read.name.clone(),
            stage: read.stage.clone(),
            image: None,
            asked: None,
            plan: Err("GitLab would send this job in a shape that Mayfly cannot read".to_owned()),
            per_minute: None,
        };
        let Some(job) = Job::read(read.claim.to_string().as_bytes()) else { return forecast };
        forecast.asked = asked(&job, &read.tags);
        forecast.plan = planned(&job, &read.tags, fleet, runner);
        match &forecast.plan {
            Ok(plan) => {
                forecast.image = Some(plan.build.image.clone());
                let price = price_per_minute(&fleet.region, plan.size, plan.arch, plan.disk_gib);
                forecast.per_minute = price.map(|price| price.per_minute);
            }
            Err(_) => forecast.image = job.image.map(|image| image.name),
        }
        forecast
    }

    /// `fargate amd64`, `fargate-spot arm64`: the capacity that the task is launched on first.
    pub(super) fn lane(&self) -> Option<String> {
        let plan = self.plan.as_ref().ok()?;
        Some(format!("{} {}", if plan.spot { "fargate-spot" } else { "fargate" }, plan.arch))
    }

    /// `2 vCPU, 4 GB, 50 GB of disk`.
    pub(super) fn given(&self) -> Option<String> {
        let plan = self.plan.as_ref().ok()?;
        let disk = plan.disk_gib.map(|gib| format!(", {gib} GB of disk")).unwrap_or_default();
        Some(format!("{}{disk}", plan.size))
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let plan = self.plan.as_ref().ok();
        let size = plan.map(|plan| {
            json!({
                "vcpus": plan.size.vcpus(),
                "memory_gib": plan.size.memory_gib(),
                "disk_gib": plan.disk_gib.unwrap_or(20),
            })
        });
        json!({
            "job": self.job,
            "stage": self.stage,
            "image": self.image,
            "services": plan.map(|plan| plan.services.iter().map(|service| &service.image).collect::<Vec<_>>()),
            "asked": self.asked,
            "size": size,
            "lane": plan.map(|plan| if plan.spot { "fargate-spot" } else { "fargate" }),
            "arch": plan.map(|plan| plan.arch),
            "dollars_per_minute": self.per_minute,
            "refused": self.plan.as_ref().err(),
        })
    }
}

/// As the dispatcher decides it.
fn planned(job: &Job, tags: &[String], fleet: &Fleet, runner: &Runner) -> Result<Plan, String> {
    match unsupported(job) {
        Some(Outcome::Failed { message, .. }) => Err(message),
        Some(_) => Err("this job cannot run here".to_owned()),
        None => plan(job, tags, fleet, runner).map_err(|error| error.to_string()),
    }
}
