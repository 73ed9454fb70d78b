//! Moves jobs and pipelines through their states (gitlab-protocol.md §1.8) and tells the hooks.

use std::sync::Arc;

use super::expand::expand;
use super::predefined;
use super::state::{Job, Outcome, State, Status};
use crate::pipeline;

impl State {
    /// Adds a job in `created`; a pipeline's processing starts it.
    pub fn create_job(&mut self, pipeline: u64, definition: Arc<pipeline::Job>, retries: u64) -> Option<u64> {
        let row = self.pipelines.get(&pipeline)?;
        let project = self.project(row.project)?;
        let now = self.clock.now();
        let id = self.jobs.keys().next_back().map_or(7001, |last| last + 1);
        let simple = predefined::simple(self, row, &definition);
        let tags = definition.tags.iter().map(|tag| expand(tag, |key| predefined::last(&simple, key))).collect();
        let job = Job {
            id,
            pipeline,
            project: project.id,
            timeout: definition.timeout.unwrap_or(project.timeout),
            definition,
            tags,
            status: Status::Created,
            failure_reason: None,
            exit_code: None,
            history: vec![(now, "created".to_owned())],
            created_at: now,
            queued_at: None,
            started_at: None,
            finished_at: None,
            updated_at: now,
            erased_at: None,
            token: None,
            runner: None,
            system_id: String::new(),
            queue: (0, 0),
            trace: Vec::new(),
            hidden_secrets: 0,
            debug_trace: false,
            artifacts: Vec::new(),
            dotenv: Vec::new(),
            pending_state: None,
            watched: false,
            retries,
            retried: false,
            finishes: 0,
        };
        self.jobs.insert(id, job);
        self.fire_job_hook(id);
        Some(id)
    }

    /// Enters `status` and fires the Job Hook that belongs to it.
    pub fn enter(&mut self, id: u64, status: Status) {
        let now = self.clock.now();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.status = status;
        job.updated_at = now;
        job.history.push((now, status.as_str().to_owned()));
        match status {
            Status::Pending => job.queued_at = Some(now),
            Status::Running => job.started_at = Some(now),
            _ if status.is_final() => {
                job.finished_at = Some(now);
                job.finishes += 1;
            }
            _ => {}
        }
        // §1.8: no hook for canceling and skipped.
        if !matches!(status, Status::Canceling | Status::Skipped) {
            self.fire_job_hook(id);
        }
        if status == Status::Pending {
            self.tick_queues();
        }
    }

    /// Ends a job and lets its pipeline go on.
    pub fn finish(&mut self, id: u64, outcome: Outcome) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.status.is_final()) else { return };
        // §5.3, E19, §9.2: whatever ends a canceling job, it ends as canceled.
        let status = if job.status == Status::Canceling { Status::Canceled } else { outcome.status };
        job.exit_code = outcome.exit_code.map(|code| code.clamp(0, 32_767));
        job.failure_reason =
            (status == Status::Failed).then(|| outcome.reason.clone().unwrap_or_else(|| "unknown_failure".to_owned()));
        // §5.4: without `retry:` only scheduler_failure is retried, twice.
        let again = job.failure_reason.as_deref() == Some("scheduler_failure") && job.retries < 2;
        let pipeline = job.pipeline;
        self.enter(id, status);
        if again {
            self.replace(id);
        }
        self.process(pipeline);
    }

    /// Fails a job for a reason that GitLab itself found.
    pub fn drop_job(&mut self, id: u64, reason: &str) {
        self.finish(id, Outcome { status: Status::Failed, reason: Some(reason.to_owned()), exit_code: None });
    }

    /// Starts what may start, skips what may not, and takes the pipeline's status from its jobs.
    pub fn process(&mut self, pipeline: u64) {
        let Some(row) = self.pipelines.get(&pipeline) else { return };
        let stages = row.file.stages.clone();
        let mut before: Vec<(Status, bool)> = Vec::new();
        for stage in &stages {
            let jobs: Vec<u64> =
                self.latest(pipeline).filter(|job| job.definition.stage == *stage).map(|j| j.id).collect();
            let earlier = composite(&before);
            for id in &jobs {
                let created = self.jobs.get(id).is_some_and(|job| job.status == Status::Created);
                match earlier {
                    "success" | "skipped" | "none" if created => self.enter(*id, Status::Pending),
                    "failed" | "canceled" if created => self.enter(*id, Status::Skipped),
                    _ => {}
                }
            }
            before.extend(jobs.iter().filter_map(|id| self.jobs.get(id)).map(verdict));
        }
        let status = composite(&before);
        let now = self.clock.now();
        let Some(row) = self.pipelines.get_mut(&pipeline) else { return };
        if row.status == status {
            return;
        }
        row.status = status;
        if status == "running" {
            row.started_at.get_or_insert(now);
        }
        row.finished_at = is_final(status).then_some(now);
        if is_final(status) {
            self.ended.push(pipeline);
        }
        self.fire_pipeline_hook(pipeline);
    }

    /// Cancels a job (§8.3): gracefully if its manager said that it can.
    pub fn cancel(&mut self, id: u64, force: bool) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let pipeline = job.pipeline;
        match job.status {
            Status::Running if !force && self.manager_cancels_gracefully(id) => self.enter(id, Status::Canceling),
            Status::Canceling if !force => return false,
            status if status.is_final() => return false,
            _ => self.enter(id, Status::Canceled),
        }
        self.process(pipeline);
        true
    }

    /// Runs a finished job again under a new id (§8.3).
    pub fn retry(&mut self, id: u64) -> Option<u64> {
        let job = self.jobs.get(&id).filter(|job| job.status.is_final() && !job.retried)?;
        let pipeline = job.pipeline;
        let position = |state: &State, job: &Job| {
            state.pipelines.get(&pipeline).and_then(|p| p.file.stages.iter().position(|s| *s == job.definition.stage))
        };
        let own = position(self, job);
        let later: Vec<u64> = self
            .latest(pipeline)
            .filter(|job| job.status == Status::Skipped && position(self, job) > own)
            .map(|job| job.id)
            .collect();
        let new = self.replace(id)?;
        for id in later {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.status = Status::Created;
                job.finished_at = None;
                job.finishes = 0;
            }
        }
        self.process(pipeline);
        Some(new)
    }

    /// Deletes log and artifacts of a finished job (§8.3).
    pub fn erase(&mut self, id: u64) -> bool {
        let now = self.clock.now();
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.status.is_final() && job.erased_at.is_none()) else {
            return false;
        };
        job.erased_at = Some(now);
        job.trace.clear();
        for artifact in job.artifacts.drain(..) {
            drop(std::fs::remove_file(artifact.file));
        }
        true
    }

    /// The newest attempt of every job of a pipeline.
    pub fn latest(&self, pipeline: u64) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.pipeline == pipeline && !job.retried)
    }

    fn replace(&mut self, id: u64) -> Option<u64> {
        let job = self.jobs.get_mut(&id)?;
        job.retried = true;
        let (pipeline, definition, retries) = (job.pipeline, Arc::clone(&job.definition), job.retries + 1);
        self.create_job(pipeline, definition, retries)
    }

    fn manager_cancels_gracefully(&self, id: u64) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let runner = job.runner.and_then(|runner| self.runner(runner));
        let manager = runner.and_then(|runner| runner.managers.iter().find(|m| m.system_id == job.system_id));
        manager.is_some_and(|manager| manager.features.contains("cancel_gracefully"))
    }
}

/// Whether a pipeline with this status is over.
pub(super) fn is_final(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped")
}

fn verdict(job: &Job) -> (Status, bool) {
    (job.status, job.definition.may_fail())
}

/// One status for many jobs, in the order of GitLab's `Ci::Status::Composite`.
fn composite(jobs: &[(Status, bool)]) -> &'static str {
    let warned = |(status, allowed): &(Status, bool)| *allowed && matches!(status, Status::Failed | Status::Canceled);
    let only = |wanted: &[Status], or_warned: bool| {
        jobs.iter().all(|job| if warned(job) { or_warned } else { wanted.contains(&job.0) })
    };
    let any = |wanted: Status| jobs.iter().any(|job| !warned(job) && job.0 == wanted);
    match () {
        () if jobs.is_empty() => "none",
        () if only(&[Status::Skipped], false) => "skipped",
        () if only(&[Status::Success, Status::Skipped], true) => "success",
        () if only(&[Status::Created], true) => "created",
        () if only(&[Status::Canceled, Status::Success, Status::Skipped], true) => "canceled",
        () if only(&[Status::Pending, Status::Created, Status::Skipped], true) => "pending",
        () if any(Status::Running) || any(Status::Pending) => "running",
        () if any(Status::Created) => "running",
        () if any(Status::Canceling) => "canceling",
        () => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_takes_its_status_from_its_jobs() {
        use Status::{Canceled, Canceling, Created, Failed, Pending, Running, Skipped, Success};
        let of = |jobs: &[(Status, bool)]| composite(jobs);

        assert_eq!(of(&[(Created, false)]), "created");
        assert_eq!(of(&[(Pending, false), (Created, false)]), "pending");
        assert_eq!(of(&[(Success, false), (Created, false)]), "running");
        assert_eq!(of(&[(Running, false), (Failed, false)]), "running");
        assert_eq!(of(&[(Success, false), (Failed, true)]), "success");
        assert_eq!(of(&[(Failed, false), (Skipped, false)]), "failed");
        assert_eq!(of(&[(Canceled, false), (Skipped, false)]), "canceled");
        assert_eq!(of(&[(Canceling, false), (Success, false)]), "canceling");
    }
}
