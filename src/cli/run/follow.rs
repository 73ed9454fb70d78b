//! Follows a pipeline until it is over, and passes on what the user wants of it meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cli::screen::Tone;
use crate::sandbox::Sandbox;
use crate::sandbox::gitlab::{JobHandle, PipelineHandle};

use super::console::Console;
use super::interrupts::Interrupts;
use super::place::{FileNames, Place};
use super::progress::Progress;
use super::teller::Teller;

/// How often the jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Names of jobs are padded to the longest, but not to a very long one.
const WIDEST_NAME: usize = 24;

/// How following ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The pipeline is over.
    ToTheEnd,
    /// The user stopped it hard.
    Stopped,
}

/// Tells of a pipeline while it runs.
pub(super) struct Follower<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) console: &'a Console,
    pub(super) place: &'a Place,
    pub(super) full_log: bool,
    /// What was told, by job id.
    pub(super) tellers: BTreeMap<u64, Teller>,
    /// Names for the jobs' files.
    pub(super) names: FileNames,
}

impl Follower<'_> {
    /// Follows `pipeline`.
    pub(super) async fn follow(
        &mut self,
        pipeline: &PipelineHandle,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<Followed> {
        let begun = Instant::now();
        let mut canceling = false;
        loop {
            let interrupted = tokio::select! {
                () = interrupts.next() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if interrupted && canceling {
                self.console.line(Tone::Warning, "stopping hard");
                self.jobs().iter().rev().for_each(JobHandle::force_cancel);
                self.look()?;
                return Ok(Followed::Stopped);
            }
            if interrupted {
                canceling = true;
                self.console.line(Tone::Warning, "canceling; once more to stop hard");
                // From the end, so that no job starts because one before it is over.
                self.jobs().iter().rev().for_each(JobHandle::cancel);
            }
            // Before the last look, so that it sees everything.
            let over = is_waiting_for_nobody(&pipeline.status()) && self.sandbox.ecs.live_tasks() == 0;
            self.look()?;
            let mut progress = Progress { canceling, ..Progress::default() };
            pipeline.jobs().iter().for_each(|job| progress.count(&job.name(), &job.status()));
            self.console.progress(progress.words(begun.elapsed()));
            if over {
                return Ok(Followed::ToTheEnd);
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let jobs = self.jobs();
        let width = jobs.iter().map(|job| job.name().chars().count()).max().unwrap_or_default().min(WIDEST_NAME);
        let mut told = Vec::new();
        for (place, job) in jobs.iter().enumerate() {
            if !self.tellers.contains_key(&job.id()) {
                if job.started_at().is_none() {
                    continue;
                }
                // Somebody looks at it: GitLab then asks for its log every 3 s and not every 60.
                job.watch(true);
                let name = job.name();
                let path = self.place.logs.join(format!("{}.log", self.names.of(&name)));
                let teller = Teller::new(self.console.screen, self.full_log, (&name, place, width), &path)?;
                self.tellers.insert(job.id(), teller);
            }
            if let Some(teller) = self.tellers.get_mut(&job.id()) {
                told.extend(teller.look(self.console.screen, job));
            }
        }
        self.console.write(&told);
        Ok(())
    }

    /// All jobs, those that were tried again as well.
    fn jobs(&self) -> Vec<JobHandle> {
        self.sandbox.gitlab.jobs()
    }
}

/// Whether the pipeline goes on by itself no more: it is over, or waits for a person.
fn is_waiting_for_nobody(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped" | "manual")
}
