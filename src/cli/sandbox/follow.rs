//! Shows the status changes of jobs and tasks, and the hooks that were not accepted.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::cli::clean::plain;
use crate::cli::screen::{Screen, Tone};
use crate::sandbox::ecs::Ecs;
use crate::sandbox::gitlab::{Delivered, Delivery, GitLab};

const EVERY: Duration = Duration::from_millis(500);

/// Shows each change until it is dropped.
pub(super) async fn follow(gitlab: &GitLab, ecs: &Ecs, screen: Screen) {
    let (mut jobs, mut tasks, mut hooks) = (HashMap::new(), HashMap::new(), HashSet::new());
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
        for (index, delivery) in gitlab.hook_deliveries().iter().enumerate() {
            if let Some(failure) = failure(delivery)
                && hooks.insert(index)
            {
                screen.line(Tone::Bad, &format!("{}: {failure}", delivery.event));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Why the receiver did not get the hook, once that is known.
fn failure(delivery: &Delivery) -> Option<String> {
    match (delivery.delivered, delivery.status) {
        (Delivered::Answered, Some(200..400)) | (Delivered::Waiting, _) => None,
        (Delivered::Answered, status) => Some(format!("the receiver answered {}", status.unwrap_or_default())),
        (Delivered::Failed, _) => Some("the receiver did not answer".to_owned()),
        (Delivered::Lost, _) => Some("not sent: the hook is disabled after four failures".to_owned()),
    }
}
