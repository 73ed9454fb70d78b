//! Lets a pipeline go on: starts what may start, skips what may not, and takes the pipeline's status from its jobs.
//!
//! As GitLab's `Ci::PipelineProcessing::AtomicProcessingService` and `Ci::ProcessBuildService` do it.

use super::state::{Job, State};
use super::status::{Status, Statuses, is_final};
use crate::pipeline::When;

/// What becomes of a job that has waited long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Enqueue,
    Enter(Status),
}

impl State {
    /// Processes `pipeline`, and every other one that gets a resource by it.
    pub fn process(&mut self, pipeline: u64) {
        self.touched.push(pipeline);
        while let Some(pipeline) = self.touched.pop() {
            // A skipped job may decide about one before it in the file that needs it.
            while self.pass(pipeline) {}
            self.take_status(pipeline);
        }
    }

    /// Goes through the jobs once, stage by stage; says whether one of them moved.
    fn pass(&mut self, pipeline: u64) -> bool {
        let Some(row) = self.pipelines.get(&pipeline) else { return false };
        let stages = row.by_stage();
        let (mut before, mut moved) = (Statuses::default(), false);
        for jobs in stages {
            for id in &jobs {
                let next = self.jobs.get(id).and_then(|job| self.next(job, before));
                match next {
                    Some(Next::Enqueue) => self.enqueue(*id),
                    Some(Next::Enter(status)) => self.enter(*id, status),
                    None => continue,
                }
                moved = true;
            }
            for job in jobs.iter().filter_map(|id| self.jobs.get(id)) {
                before.add(job.status, job.may_fail);
            }
        }
        moved
    }

    /// What becomes of `job`, with `before` in the earlier stages; `None` if it waits or has started.
    fn next(&self, job: &Job, before: Statuses) -> Option<Next> {
        if job.status != Status::Created {
            return None;
        }
        let by_needs = job.definition.needs.is_some();
        let previous = if by_needs { self.needed(job).of_needs() } else { before.together() };
        let previous = previous.unwrap_or("success");
        if !is_final(previous) {
            return None;
        }
        let starts = match job.definition.when {
            When::OnSuccess | When::Manual | When::Delayed(_) => {
                previous == "success" || (previous == "skipped" && !by_needs)
            }
            When::OnFailure => previous == "failed",
            When::Always => previous != "canceled",
        };
        Some(match job.definition.when {
            _ if !starts => Next::Enter(Status::Skipped),
            When::Manual if !job.at_once => Next::Enter(Status::Manual),
            When::Delayed(_) if !job.at_once => Next::Enter(Status::Scheduled),
            _ => Next::Enqueue,
        })
    }

    fn needed(&self, job: &Job) -> Statuses {
        let mut statuses = Statuses::default();
        let Some(pipeline) = self.pipelines.get(&job.pipeline) else { return statuses };
        let needs = job.definition.needs.iter().flatten();
        for needed in needs.filter_map(|need| self.jobs.get(&pipeline.latest_named(&need.job)?)) {
            statuses.add(needed.status, needed.may_fail);
        }
        statuses
    }

    fn take_status(&mut self, pipeline: u64) {
        let mut statuses = Statuses::default();
        self.latest(pipeline).for_each(|job| statuses.add(job.status, job.may_fail));
        let now = self.clock.now();
        let Some(row) = self.pipelines.get_mut(&pipeline) else { return };
        row.has_warnings = statuses.has_warnings();
        // GitLab makes no pipeline without jobs.
        let status = statuses.together().unwrap_or("skipped");
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
}
