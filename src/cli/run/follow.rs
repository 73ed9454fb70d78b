//! Follows a pipeline until it is over, and passes on what the user wants of it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::cli::clean::plain;
use crate::cli::interrupts::Interrupts;
use crate::cli::screen::Tone;
use crate::cli::words::clock;
use crate::sandbox::Sandbox;
use crate::sandbox::gitlab::{JobHandle, PipelineHandle};

use super::console::Console;
use super::place::{FileNames, Place};
use super::progress::Progress;
use super::teller::Teller;

/// How often the jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Names of jobs are padded to the longest, but not to a very long one.
const WIDEST_NAME: usize = 24;

/// Tells of a pipeline while it runs.
pub(super) struct Follower<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) console: &'a Console,
    pub(super) place: &'a Place,
    pub(super) full_log: bool,
    /// The names of the manual jobs that are started.
    pub(super) wanted: Vec<String>,
    /// Whether the user has cancelled the run.
    pub(super) canceled: bool,
    /// The delayed jobs that were told of, by id.
    pub(super) delayed: BTreeSet<u64>,
    /// What was told, by job id.
    pub(super) tellers: BTreeMap<u64, Teller>,
    /// Names for the jobs' files.
    pub(super) names: FileNames,
}

impl Follower<'_> {
    /// Follows `pipeline` until nothing of it moves by itself, or the user stops it hard.
    pub(super) async fn follow(
        &mut self,
        pipeline: &PipelineHandle,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let interrupted = tokio::select! {
                () = interrupts.next() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if interrupted && self.canceled {
                self.console.line(Tone::Warning, "stopping hard");
                self.jobs().iter().rev().for_each(JobHandle::force_cancel);
                self.look()?;
                return Ok(());
            }
            if interrupted {
                self.canceled = true;
                self.console.line(Tone::Warning, "canceling; once more to stop hard");
                pipeline.cancel();
            }
            self.play(pipeline);
            // Before the last look, so that it sees everything.
            let over = rests(pipeline) && self.sandbox.ecs.live_tasks() == 0;
            self.look()?;
            let mut progress = Progress { canceling: self.canceled, ..Progress::default() };
            for job in pipeline.jobs() {
                progress.count(&job.name(), &job.status(), self.starts_in(&job));
            }
            self.console.progress(progress.words(begun.elapsed()));
            if over {
                return Ok(());
            }
        }
    }

    /// Starts the manual jobs that the user named, each when its turn has come.
    fn play(&self, pipeline: &PipelineHandle) {
        if self.canceled {
            return;
        }
        for job in pipeline.jobs() {
            if job.status() == "manual" && self.wanted.contains(&job.name()) {
                job.play();
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let jobs = self.jobs();
        let width = jobs.iter().map(|job| job.name().chars().count()).max().unwrap_or_default().min(WIDEST_NAME);
        let mut told = Vec::new();
        for (place, job) in jobs.iter().enumerate() {
            if let Some(delay) = self.starts_in(job)
                && self.delayed.insert(job.id())
            {
                let words = format!("{}: starts in {}", plain(&job.name()), clock(delay));
                told.push(self.console.screen.paint(Tone::Faint, &words));
            }
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

    /// How long a delayed job still waits.
    fn starts_in(&self, job: &JobHandle) -> Option<Duration> {
        let at = job.scheduled_at().filter(|_| job.status() == "scheduled")?;
        Some(Duration::try_from(at.duration_since(self.sandbox.clock.now())).unwrap_or_default())
    }

    /// All jobs, those that were tried again as well.
    fn jobs(&self) -> Vec<JobHandle> {
        self.sandbox.gitlab.jobs()
    }
}

/// Whether nothing of the pipeline moves by itself: it is over, or goes on only when a person starts a job.
fn rests(pipeline: &PipelineHandle) -> bool {
    let moves = |job: &JobHandle| {
        matches!(job.status().as_str(), "waiting_for_resource" | "pending" | "running" | "canceling" | "scheduled")
    };
    !pipeline.jobs().iter().any(moves)
}
