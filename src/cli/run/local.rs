//! Runs a pipeline from its snapshot to its report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Context;
use jiff::SignedDuration;

use crate::cli::agent::{agent, static_agent};
use crate::cli::clean::plain;
use crate::cli::exit::ExitCode;
use crate::cli::interrupts::Interrupts;
use crate::cli::screen::{Screen, Tone, print_error, print_json};
use crate::cli::source::{ReadJob, Reading, Snapshot, foreign_tags, unreadable};
use crate::config::Fleet;
use crate::plan::VOCABULARY;
use crate::sandbox::ecs::Runtime;
use crate::sandbox::gitlab::{PipelineHandle, RunnerSpec, Trigger};
use crate::sandbox::{Sandbox, Settings};

use super::console::Console;
use super::follow::Follower;
use super::options::Run;
use super::place::{FileNames, Place};
use super::report::{JobReport, RunReport};
use super::{artifacts, json, list, select, summary};

/// Fewer jobs at once would let a job wait for one beside it that waits itself.
const LEAST_AT_ONCE: u32 = 4;

impl Run {
    /// Runs the command.
    pub(in crate::cli) async fn run(self) -> ExitCode {
        let screen = Screen::new(self.json);
        match self.go(screen).await {
            Ok(code) => code,
            Err(error) => {
                print_error(&error);
                if self.json {
                    print_json(&serde_json::json!({"error": format!("{error:#}")}));
                }
                ExitCode::of(&error)
            }
        }
    }

    async fn go(&self, screen: Screen) -> anyhow::Result<ExitCode> {
        let mut interrupts = Interrupts::listen()?;
        let snapshot = Snapshot::take(&self.dir, &self.event, None)?;
        let trigger = self.event.trigger(&snapshot)?;
        let reading = interrupts.or(Reading::of(&snapshot, &trigger)).await?;
        if self.list {
            match self.json {
                true => print_json(&list::document(&reading)),
                false => list::show(&reading, screen),
            }
            return Ok(ExitCode::Success);
        }
        let trigger = Trigger { only: select::select(&reading.jobs, &self.wanted)?, ..trigger };
        let agent = if self.containers { static_agent(self.agent.as_deref())? } else { agent()? };
        let place = Place::take(&snapshot.top, self.artifacts.as_deref(), !self.no_cache)?;
        self.introduce(screen, &snapshot, &reading);
        let settings = Settings {
            agent: Some(agent),
            cache: Some(place.cache.clone()),
            builds: place.builds.clone().filter(|_| !self.containers),
            runners: vec![runner(&reading.jobs)],
            runtime: if self.containers { Runtime::Containers { internet: true } } else { Runtime::Processes },
            fleet: fleet(self.at_once.unwrap_or_else(processors), self.helper_image.clone()),
            // Nobody else asks this GitLab: no look is one too many.
            poll_spacing: SignedDuration::ZERO,
            ..Settings::default()
        };
        let start = async { Sandbox::start(settings).await.context("starting the stand-ins for GitLab, ECS and S3") };
        let sandbox = interrupts.or(start).await?;
        if !sandbox.ecs.has_places() {
            let note = "note: this machine lets nobody bind directories, so every job's builds lie elsewhere: what \
                holds absolute paths, such as a virtual environment, is of no use to another job";
            screen.line(Tone::Warning, note);
        }
        let report = self.follow(&sandbox, screen, &place, (&snapshot, &trigger, &reading), &mut interrupts).await;
        sandbox.shutdown().await;
        let report = report?;
        summary::show(&report, screen);
        if self.json {
            print_json(&json::document(&report));
        }
        Ok(if report.passed() { ExitCode::Success } else { ExitCode::Failure })
    }

    /// What is to be known before the first job starts.
    fn introduce(&self, screen: Screen, snapshot: &Snapshot, reading: &Reading) {
        let title = format!("{} at {}", self.event.words(snapshot), &snapshot.commit[..8.min(snapshot.commit.len())]);
        let name = reading.name.as_ref().map(|name| format!(": {name}")).unwrap_or_default();
        screen.line(Tone::Title, &plain(&format!("{}: {title}{name}", snapshot.project_path)));
        let note = match self.containers {
            true => "Jobs run in containers of this machine.",
            false => "Jobs run as processes of this machine, not in containers: `image:` and users are ignored.",
        };
        screen.line(Tone::Plain, note);
        for note in snapshot.notes.iter().chain(&reading.notes) {
            screen.line(Tone::Plain, &plain(&format!("note: {note}")));
        }
        for tag in foreign_tags(&reading.jobs) {
            screen.line(Tone::Warning, &plain(&format!("tags: {}", tag.words())));
        }
        screen.line(Tone::Plain, "");
    }

    async fn follow(
        &self,
        sandbox: &Sandbox,
        screen: Screen,
        place: &Place,
        (snapshot, trigger, reading): (&Snapshot, &Trigger, &Reading),
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<RunReport> {
        let begun = Instant::now();
        sandbox.gitlab.withhold_secrets();
        let project = sandbox.add_project(&snapshot.project_path, snapshot.path());
        let pipeline = sandbox.gitlab.trigger(project, trigger).map_err(unreadable)?;
        pipeline.jobs().iter().for_each(|job| job.watch(true));
        let console = Console::new(screen);
        let (tellers, names) = (BTreeMap::new(), FileNames::default());
        let jobs = reading.jobs.iter();
        let wanted = jobs.filter(|job| self.wanted.iter().any(|name| job.is_called(name))).map(|job| job.name.clone());
        let mut follower = Follower {
            sandbox,
            console: &console,
            place,
            full_log: self.full_log,
            wanted: wanted.collect(),
            canceled: false,
            delayed: BTreeSet::new(),
            tellers,
            names,
        };
        let followed = follower.follow(&pipeline, interrupts).await;
        console.end_progress();
        followed?;
        let seconds = begun.elapsed().as_secs_f64();
        self.report(&pipeline, &follower, snapshot, seconds).await
    }

    async fn report(
        &self,
        pipeline: &PipelineHandle,
        follower: &Follower<'_>,
        snapshot: &Snapshot,
        seconds: f64,
    ) -> anyhow::Result<RunReport> {
        let place = follower.place;
        let mut names = FileNames::default();
        let mut jobs = Vec::new();
        for job in pipeline.jobs() {
            let mut row = JobReport::of(&job, follower.sandbox).await;
            if let Some(teller) = follower.tellers.get(&job.id()) {
                row.tail = teller.tail.iter().cloned().collect();
                row.log = Some(teller.path.clone());
            }
            match artifacts::keep(&job, &place.artifacts.join(names.of(&row.name))) {
                Ok(kept) => row.artifacts = kept,
                Err(error) => {
                    follower.console.line(Tone::Warning, &plain(&format!("artifacts: {error:#}")));
                }
            }
            jobs.push(row);
        }
        Ok(RunReport {
            status: pipeline.status(),
            canceled: follower.canceled,
            region: follower.sandbox.fleet.region.clone(),
            event: self.event.words(snapshot),
            commit: snapshot.commit.clone(),
            seconds,
            jobs,
            artifacts: place.artifacts.clone(),
            logs: place.logs.clone(),
            cache: place.cache.clone(),
        })
    }
}

/// A runner that takes every job of the pipeline: it carries the vocabulary and all tags that the jobs ask for.
fn runner(jobs: &[ReadJob]) -> RunnerSpec {
    let mut tags = VOCABULARY.map(str::to_owned).to_vec();
    tags.extend(foreign_tags(jobs).into_iter().map(|foreign| foreign.tag));
    RunnerSpec { description: "mayfly".into(), tags, ..RunnerSpec::default() }
}

/// Everything that Fargate has may be asked for: here it costs nothing.
fn fleet(at_once: u32, helper_image: Option<String>) -> Box<dyn FnOnce(&mut Fleet) + Send> {
    Box::new(move |fleet| {
        fleet.size.max_cpu = None;
        fleet.size.max_memory = None;
        fleet.runners.iter_mut().for_each(|runner| runner.limit = Some(at_once));
        fleet.images.helper = helper_image.unwrap_or_else(|| fleet.images.helper.clone());
        // This machine's processor stands in for the other one as well.
        if let Some(sha256) = fleet.broker.agents.get("amd64").cloned() {
            fleet.broker.agents.insert("arm64".to_owned(), sha256);
        }
    })
}

fn processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get());
    u32::try_from(processors).unwrap_or(u32::MAX).max(LEAST_AT_ONCE)
}
