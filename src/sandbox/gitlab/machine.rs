//! Moves jobs through their states (gitlab-protocol.md §1.8) and tells the hooks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::auto_retry::tries_again;
use super::expand::expand;
use super::faults::later;
use super::pipeline_row::Pipeline;
use super::predefined;
use super::state::{Job, Outcome, State};
use super::status::Status;
use crate::pipeline::{self, AllowFailure, When};

impl State {
    /// Adds the jobs of a pipeline that was just read, and starts it.
    pub fn start_pipeline(&mut self, id: u64) {
        let Some(row) = self.pipelines.get(&id) else { return };
        let file = Arc::clone(&row.file);
        for definition in &file.jobs {
            if let Some(job) = self.create_job(id, Arc::new(definition.clone()), 0)
                && let Some(row) = self.pipelines.get_mut(&id)
            {
                row.add_job(&definition.name, row.stage_index(&definition.stage), job);
            }
        }
        self.process(id);
    }

    /// Adds a job in `created`; a pipeline's processing starts it.
    fn create_job(&mut self, pipeline: u64, definition: Arc<pipeline::Job>, retries: u64) -> Option<u64> {
        let row = self.pipelines.get(&pipeline)?;
        let project = self.project(row.project)?;
        let now = self.clock.now();
        let id = self.jobs.keys().next_back().map_or(7001, |last| last + 1);
        let asks = |text: &String| text.contains('$');
        let known = if definition.tags.iter().chain(&definition.resource_group).any(asks) {
            predefined::simple(self, row, &definition)
        } else {
            Vec::new()
        };
        let expanded = |text: &String| expand(text, |key| predefined::last(&known, key));
        let job = Job {
            id,
            pipeline,
            project: project.id,
            timeout: definition.timeout.unwrap_or(project.timeout),
            stage: row.stage_index(&definition.stage),
            tags: definition.tags.iter().map(expanded).collect(),
            resource_group: definition.resource_group.as_ref().map(expanded).filter(|group| !group.is_empty()),
            may_fail: definition.allow_failure == AllowFailure::Yes,
            at_once: false,
            definition,
            status: Status::Created,
            failure_reason: None,
            exit_code: None,
            history: vec![(now, "created".to_owned())],
            created_at: now,
            queued_at: None,
            started_at: None,
            finished_at: None,
            scheduled_at: None,
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
            Status::Scheduled => {
                let delay = if let When::Delayed(delay) = job.definition.when { delay } else { Default::default() };
                let at = later(now, delay);
                job.scheduled_at = Some(at);
                self.scheduled.push((id, at));
            }
            _ if status.is_final() => {
                job.finished_at = Some(now);
                job.finishes += 1;
            }
            _ => {}
        }
        if has_hook(status) {
            self.fire_job_hook(id);
        }
        if status == Status::Pending {
            self.tick_queues();
        }
        if status.is_final() {
            self.release(id);
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
        if let (AllowFailure::ExitCodes(codes), Some(code)) = (&job.definition.allow_failure, job.exit_code) {
            job.may_fail = job.failure_reason.is_some() && codes.contains(&code);
        }
        let reason = job.failure_reason.as_deref();
        let again = reason.is_some_and(|why| tries_again(&job.definition.retry, why, job.exit_code, job.retries));
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

    /// Cancels a job (§8.3): gracefully if its manager said that it can.
    pub fn cancel(&mut self, id: u64, force: bool) -> bool {
        let Some(pipeline) = self.jobs.get(&id).map(|job| job.pipeline) else { return false };
        let canceled = self.stop(id, force);
        if canceled {
            self.process(pipeline);
        }
        canceled
    }

    /// Cancels every job of a pipeline that waits or runs.
    pub fn cancel_pipeline(&mut self, pipeline: u64) {
        let ends = |job: &&Job| job.status.ends_with_its_pipeline();
        let ids: Vec<u64> = self.latest(pipeline).filter(ends).map(|job| job.id).collect();
        for id in ids {
            self.stop(id, false);
        }
        self.process(pipeline);
    }

    /// Starts a job that waits for a person, or for its time (§8.3).
    pub fn play(&mut self, id: u64) -> bool {
        let waits = |job: &&Job| matches!(job.status, Status::Manual | Status::Scheduled);
        let Some(pipeline) = self.jobs.get(&id).filter(waits).map(|job| job.pipeline) else { return false };
        self.enqueue(id);
        self.revive_after(id);
        self.process(pipeline);
        true
    }

    /// The time of a delayed job has come.
    pub fn start_scheduled(&mut self, id: u64) {
        if self.jobs.get(&id).is_some_and(|job| job.status == Status::Scheduled) {
            self.play(id);
        }
    }

    /// Runs a finished job again under a new id (§8.3).
    pub fn retry(&mut self, id: u64) -> Option<u64> {
        let retryable = |job: &&Job| job.status.is_final() && job.status != Status::Skipped && !job.retried;
        let pipeline = self.jobs.get(&id).filter(retryable)?.pipeline;
        let new = self.replace(id)?;
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

    /// The newest attempt of every job of a pipeline, in the order of the file.
    pub fn latest(&self, pipeline: u64) -> impl Iterator<Item = &Job> {
        let ids = self.pipelines.get(&pipeline).map(Pipeline::latest).unwrap_or_default();
        ids.iter().filter_map(|id| self.jobs.get(id))
    }

    fn stop(&mut self, id: u64, force: bool) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        match job.status {
            Status::Running if !force && self.manager_cancels_gracefully(id) => self.enter(id, Status::Canceling),
            Status::Canceling if !force => return false,
            status if status.is_final() => return false,
            _ => self.enter(id, Status::Canceled),
        }
        true
    }

    /// Makes the next attempt of a job. It does not wait to be played or for its delay again.
    fn replace(&mut self, id: u64) -> Option<u64> {
        let job = self.jobs.get_mut(&id)?;
        job.retried = true;
        let (pipeline, definition, retries) = (job.pipeline, Arc::clone(&job.definition), job.retries + 1);
        let new = self.create_job(pipeline, Arc::clone(&definition), retries)?;
        if let Some(job) = self.jobs.get_mut(&new) {
            job.at_once = true;
        }
        if let Some(row) = self.pipelines.get_mut(&pipeline) {
            row.replace_job(&definition.name, new);
        }
        self.revive_after(new);
        Some(new)
    }

    /// What was skipped behind a job that runs again, or at last, waits for it once more.
    fn revive_after(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (pipeline, stage) = (job.pipeline, job.stage);
        let mut again = BTreeSet::from([job.definition.name.clone()]);
        loop {
            let waits = |job: &&Job| match &job.definition.needs {
                Some(needs) => needs.iter().any(|need| again.contains(&need.job)),
                None => job.stage > stage,
            };
            let skipped = self.latest(pipeline).filter(|job| job.status == Status::Skipped).filter(waits);
            let revived: Vec<(u64, String)> = skipped.map(|job| (job.id, job.definition.name.clone())).collect();
            if revived.is_empty() {
                return;
            }
            for (id, name) in revived {
                again.insert(name);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.status = Status::Created;
                    job.finished_at = None;
                    job.finishes = 0;
                }
            }
        }
    }

    fn manager_cancels_gracefully(&self, id: u64) -> bool {
        let Some(job) = self.jobs.get(&id) else { return false };
        let runner = job.runner.and_then(|runner| self.runner(runner));
        let manager = runner.and_then(|runner| runner.managers.iter().find(|m| m.system_id == job.system_id));
        manager.is_some_and(|manager| manager.features.contains("cancel_gracefully"))
    }
}

/// §1.8: of the others nobody hears.
fn has_hook(status: Status) -> bool {
    let silent = [Status::Canceling, Status::Skipped, Status::Manual, Status::Scheduled, Status::WaitingForResource];
    !silent.contains(&status)
}
