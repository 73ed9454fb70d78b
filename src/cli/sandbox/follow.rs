//! Shows the status changes of jobs and tasks.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::clean::plain;
use crate::cli::screen::{Screen, Tone};
use crate::sandbox::ecs::Ecs;
use crate::sandbox::gitlab::GitLab;

const EVERY: Duration = Duration::from_millis(500);

/// Shows each change until it is dropped.
pub(super) async fn follow(gitlab: &GitLab, ecs: &Ecs, screen: Screen) {
    let (mut jobs, mut tasks) = (HashMap::new(), HashMap::new());
    loop {
        for job in gitlab.jobs() {
            let status = job.status();
            if jobs.insert(job.id(), status.clone()).as_ref() != Some(&status) {
                let reason = job.failure_reason().map(|reason| format!(", {reason}")).unwrap_or_default();
                let tone = if status == "failed" { Tone::Bad } else { Tone::Plain };
                screen.line(tone, &plain(&format!("job {} `{}`: {status}{reason}", job.id(), job.name())));
            }
        }
        for task in ecs.tasks() {
            let status = task.last_status.clone();
            if tasks.insert(task.arn.clone(), status.clone()).as_ref() != Some(&status) {
                let id = task.arn.rsplit('/').next().unwrap_or_default();
                let reason = task.stopped_reason.map(|reason| format!(", {reason}")).unwrap_or_default();
                screen.line(Tone::Faint, &plain(&format!("task {id}: {status}{reason}")));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
