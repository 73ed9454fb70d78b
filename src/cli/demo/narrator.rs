//! Tells what happens while a pipeline runs, as it happens.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::clean::plain;
use crate::cli::screen::{Screen, Tone};
use crate::cli::trace_lines::TraceLines;
use crate::sandbox::Sandbox;
use crate::sandbox::gitlab::{JobHandle, PipelineHandle};

/// How often the narrator looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Watches a sandbox and tells about it.
pub(super) struct Narrator<'a> {
    sandbox: &'a Sandbox,
    screen: Screen,
    full_log: bool,
    requests: usize,
    events: usize,
    jobs: HashMap<u64, Told>,
}

/// What was told of a job.
#[derive(Default)]
struct Told {
    read: usize,
    status: String,
    lines: TraceLines,
}

impl<'a> Narrator<'a> {
    pub(super) fn new(sandbox: &'a Sandbox, screen: Screen, full_log: bool) -> Self {
        Narrator { sandbox, screen, full_log, requests: 0, events: 0, jobs: HashMap::new() }
    }

    /// Tells of `pipeline` until it has ended and its tasks are gone.
    pub(super) async fn follow(&mut self, pipeline: &PipelineHandle) {
        let mut finished = Box::pin(async {
            pipeline.finished().await;
            self.sandbox.ecs.all_stopped().await;
        });
        let (sandbox, screen) = (self.sandbox, self.screen);
        let mut this =
            Narrator { jobs: std::mem::take(&mut self.jobs), ..Narrator::new(sandbox, screen, self.full_log) };
        (this.requests, this.events) = (self.requests, self.events);
        loop {
            let done = tokio::time::timeout(LOOK_EVERY, &mut finished).await.is_ok();
            this.look(pipeline);
            if done {
                break;
            }
        }
        drop(finished);
        *self = this;
    }

    fn look(&mut self, pipeline: &PipelineHandle) {
        self.tell_requests();
        for job in pipeline.jobs() {
            self.tell_job(&job);
        }
        self.tell_events(pipeline);
    }

    fn tell_requests(&mut self) {
        let seen = self.sandbox.traffic.seen();
        let hooks = seen[self.requests..].iter().filter(|seen| seen.server == "webhook").count();
        self.requests = seen.len();
        if hooks > 0 {
            let many = if hooks == 1 { "once".to_owned() } else { format!("{hooks} times") };
            self.screen.step(
                "knock",
                &format!("GitLab's signed webhook rang {many}; the queue takes it, nothing else was on"),
            );
        }
    }

    fn tell_job(&mut self, job: &JobHandle) {
        let told = self.jobs.entry(job.id()).or_default();
        let status = job.status();
        if status != told.status {
            if status == "running" {
                self.screen.step("claim", &format!("job {} `{}` is ours", job.id(), job.name()));
            }
            told.status.clone_from(&status);
        }
        // Before the trace, which is whole when the job is over.
        let over = job.finished_at().is_some();
        let trace = job.trace();
        let mut lines = told.lines.read(&trace[told.read.min(trace.len())..]);
        told.read = trace.len();
        if over {
            lines.extend(told.lines.end());
        }
        for line in lines {
            tell_line(self.screen, self.full_log || line.script, &job.name(), &plain(&line.text));
        }
    }

    fn tell_events(&mut self, pipeline: &PipelineHandle) {
        let events = self.sandbox.ecs.events();
        for event in &events[self.events..] {
            let detail = &event["detail"];
            let started_by = detail["startedBy"].as_str().unwrap_or_default();
            let job = pipeline.jobs().into_iter().find(|job| started_by.contains(&format!("/{}/", job.id())));
            let Some(name) = job.map(|job| job.name()) else { continue };
            match detail["lastStatus"].as_str() {
                Some("PROVISIONING") => {
                    let size = format!("{} CPU units, {} MiB", text(&detail["cpu"]), text(&detail["memory"]));
                    self.screen.step("task", &format!("`{name}`: RunTask gave a Fargate task of {size}"));
                }
                Some("STOPPED") => {
                    self.screen
                        .step("task", &format!("`{name}`: the task is gone ({})", text(&detail["stoppedReason"])));
                }
                _ => {}
            }
        }
        self.events = events.len();
    }
}

/// Lines of ours that explain the size are told with their own label; of the rest the script's part is enough.
fn tell_line(screen: Screen, show: bool, job: &str, line: &str) {
    let text = line.trim_end();
    if text.is_empty() {
        return;
    }
    for (start, label) in [("Size: ", "size"), ("Price: ", "price")] {
        if let Some(rest) = text.strip_prefix(start) {
            screen.step(label, &format!("`{job}`: {rest}"));
            return;
        }
    }
    if text.contains("extracted cache") || text.starts_with("Restored") || text.starts_with("Saved") {
        screen.step("cache", &format!("`{job}`: {text}"));
    } else if text == "Job succeeded" {
        screen.line(Tone::Good, &format!("      ok  `{job}`: {text}"));
    } else if text.starts_with("ERROR: ") {
        screen.line(Tone::Bad, &format!("  failed  `{job}`: {text}"));
    } else if show {
        screen.line(Tone::Faint, &format!("     log  {job} | {text}"));
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}
