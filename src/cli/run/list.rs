//! Lists the jobs that a pipeline would have.

use serde_json::{Value, json};

use crate::cli::screen::{Screen, Tone};
use crate::cli::source::{ReadJob, Reading};
use crate::cli::words::{Table, clock};
use crate::pipeline::When;

/// One row a job.
pub(super) fn show(reading: &Reading, screen: Screen) {
    let mut table = Table::new(&["job", "stage", "when", "needs"]);
    for job in &reading.jobs {
        let needs = job.needs.as_ref().map(|needs| match needs.as_slice() {
            [] => "nothing".to_owned(),
            needs => needs.join(", "),
        });
        table.row(
            Tone::Plain,
            vec![job.name.clone(), job.stage.clone(), when(job), needs.unwrap_or_else(|| "earlier stages".to_owned())],
        );
    }
    table.show(screen);
}

/// The same for machines: `needs` is null where the stages decide.
pub(super) fn document(reading: &Reading) -> Value {
    let job = |job: &ReadJob| json!({"name": job.name, "stage": job.stage, "when": when(job), "needs": job.needs, "tags": job.tags});
    json!({"jobs": reading.jobs.iter().map(job).collect::<Vec<_>>()})
}

fn when(job: &ReadJob) -> String {
    match job.when {
        When::OnSuccess => "on_success".to_owned(),
        When::OnFailure => "on_failure".to_owned(),
        When::Always => "always".to_owned(),
        When::Manual => "manual".to_owned(),
        When::Delayed(delay) => format!("delayed by {}", clock(delay)),
    }
}
