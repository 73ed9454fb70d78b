//! What the demo has shown, in one table: how long, with which cache, for which price.

use serde_json::{Value, json};

use crate::cli::screen::{Screen, Tone};
use crate::plan::{Arch, TaskSize, price_per_minute};
use crate::sandbox::Sandbox;
use crate::sandbox::gitlab::PipelineHandle;

/// The runs of all pipelines.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) passes: Vec<Pass>,
}

/// One run of a pipeline.
#[derive(Debug)]
pub(super) struct Pass {
    project: &'static str,
    pass: u32,
    jobs: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    status: String,
    seconds: f64,
    cache_hit: bool,
    dollars: Option<f64>,
}

/// Fargate bills seconds, a minute at least (aws.md §8).
const LEAST_BILLED_SECONDS: f64 = 60.0;

impl Pass {
    /// Reads what came of `pipeline`.
    pub(super) fn of(project: &'static str, pass: u32, pipeline: &PipelineHandle, sandbox: &Sandbox) -> Pass {
        let tasks = sandbox.ecs.tasks();
        let jobs = pipeline.jobs().into_iter().map(|job| {
            let times = job.started_at().zip(job.finished_at());
            let seconds = times.map_or(0.0, |(start, end)| end.duration_since(start).as_secs_f64());
            let trace = String::from_utf8_lossy(&job.trace()).into_owned();
            let of_job =
                |json: &Value| json["startedBy"].as_str().is_some_and(|by| by.contains(&format!("/{}/", job.id())));
            let task = tasks.iter().find(|task| of_job(&task.json));
            let dollars = task.and_then(|task| {
                let number = |field: &str| task.json[field].as_str()?.parse::<u32>().ok();
                let size = TaskSize { cpu_units: number("cpu")?, memory_mib: number("memory")? };
                let price = price_per_minute(&sandbox.fleet.region, size, Arch::Amd64, None)?;
                Some(price.per_minute / 60.0 * seconds.max(LEAST_BILLED_SECONDS))
            });
            Row {
                name: job.name(),
                status: job.status(),
                seconds,
                cache_hit: trace.contains("Successfully extracted cache"),
                dollars,
            }
        });
        Pass { project, pass, jobs: jobs.collect() }
    }
}

impl Report {
    /// Whether every job passed, and the last pass of the last pipeline found its cache.
    pub(super) fn passed(&self) -> bool {
        let all_passed = self.passes.iter().flat_map(|pass| &pass.jobs).all(|job| job.status == "success");
        let hit = self.passes.last().is_some_and(|pass| pass.jobs.iter().all(|job| job.cache_hit));
        all_passed && hit
    }

    /// The table.
    pub(super) fn show(&self, screen: Screen) {
        screen.line(Tone::Plain, "");
        screen.line(Tone::Title, "What it came to");
        let head =
            format!("  {:<20} {:<8} {:<9} {:>8}  {:<6} {:>10}", "project", "job", "status", "time", "cache", "price*");
        screen.line(Tone::Faint, &head);
        for pass in &self.passes {
            for job in &pass.jobs {
                let project =
                    if pass.pass > 1 { format!("{} #{}", pass.project, pass.pass) } else { pass.project.into() };
                let cache = if job.cache_hit { "hit" } else { "miss" };
                let price = job.dollars.map_or("unknown".into(), |dollars| format!("${dollars:.5}"));
                let tone = if job.status == "success" { Tone::Plain } else { Tone::Bad };
                let line = format!(
                    "  {project:<20} {:<8} {:<9} {:>6.1} s  {cache:<6} {price:>10}",
                    job.name, job.status, job.seconds
                );
                screen.line(tone, &line);
            }
        }
        if let Some((name, first, second)) = self.saved().filter(|(_, first, second)| first > second) {
            let text = format!(
                "The cache made `{name}` {:.1} s faster: {first:.1} s without it, {second:.1} s with it.",
                first - second
            );
            screen.line(Tone::Good, &text);
        }
        screen.line(
            Tone::Faint,
            "* what Fargate asks for the task's time, a minute at least; the rest of the day costs nothing.",
        );
    }

    /// The same for machines.
    pub(super) fn json(&self) -> Value {
        let job = |job: &Row| json!({"name": job.name, "status": job.status, "seconds": job.seconds, "cache_hit": job.cache_hit, "dollars": job.dollars});
        let pass = |pass: &Pass| json!({"project": pass.project, "pass": pass.pass, "jobs": pass.jobs.iter().map(job).collect::<Vec<_>>()});
        let saved = self.saved().map(|(_, first, second)| first - second);
        json!({
            "passed": self.passed(),
            "saved_seconds": saved,
            "pipelines": self.passes.iter().map(pass).collect::<Vec<_>>(),
        })
    }

    /// The first job of the pipeline that ran twice: its time without and with the cache.
    fn saved(&self) -> Option<(&str, f64, f64)> {
        let second = self.passes.iter().find(|pass| pass.pass == 2)?;
        let first = self.passes.iter().find(|pass| pass.project == second.project && pass.pass == 1)?;
        let (before, after) = (first.jobs.first()?, second.jobs.first()?);
        Some((&after.name, before.seconds, after.seconds))
    }
}
