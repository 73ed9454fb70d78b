//! Lists the jobs that a pipeline would have.

use serde_json::{Value, json};

use crate::cli::screen::{Screen, Tone};
use crate::cli::words::{Table, clock};
use crate::pipeline::{Job, Pipeline, When};

/// One row a job.
pub(super) fn show(pipeline: &Pipeline, screen: Screen) {
    let mut table = Table::new(&["job", "stage", "when", "needs"]);
    for job in &pipeline.jobs {
        let needs = job.needs.as_ref().map(|needs| match needs.as_slice() {
            [] => "nothing".to_owned(),
            needs => needs.iter().map(|need| need.job.as_str()).collect::<Vec<_>>().join(", "),
        });
        table.row(
            Tone::Plain,
            vec![job.name.clone(), job.stage.clone(), when(job), needs.unwrap_or_else(|| "earlier stages".to_owned())],
        );
    }
    table.show(screen);
}

/// The same for machines: `needs` is null where the stages decide.
pub(super) fn document(pipeline: &Pipeline) -> Value {
    let job = |job: &Job| {
        let needs = job.needs.as_ref().map(|needs| needs.iter().map(|need| &need.job).collect::<Vec<_>>());
        json!({"name": job.name, "stage": job.stage, "when": when(job), "needs": needs, "tags": job.tags})
    };
    json!({"jobs": pipeline.jobs.iter().map(job).collect::<Vec<_>>()})
}

fn when(job: &Job) -> String {
    match job.when {
        When::OnSuccess => "on_success".to_owned(),
        When::OnFailure => "on_failure".to_owned(),
        When::Always => "always".to_owned(),
        When::Manual => "manual".to_owned(),
        When::Delayed(delay) => format!("delayed by {}", clock(delay)),
    }
}
