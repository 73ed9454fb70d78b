//! A sandbox on a paused clock, and its servers' distance.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::clock::Clock;
use mayfly::sandbox::ecs::Runtime;
use mayfly::sandbox::gitlab::JobHandle;
use mayfly::sandbox::traffic::{Moment, Seen, Verdict};
use mayfly::sandbox::{Sandbox, Settings};

use crate::helper::{Deeds, Fates, play};
use crate::support::repository;

/// Jobs of one pipeline at most.
const PARALLEL: usize = 200;

/// How long each server takes to answer.
#[derive(Clone, Copy, Debug)]
pub struct Latencies {
    pub s3: u64,
    pub gitlab: u64,
    pub run_task: u64,
    pub describe_tasks: u64,
}

pub const USUAL: Latencies = Latencies { s3: 20, gitlab: 60, run_task: 500, describe_tasks: 200 };

impl Latencies {
    pub fn of(&self, seen: &Seen) -> Duration {
        Duration::from_millis(match (seen.server, seen.path.as_str()) {
            ("s3", _) => self.s3,
            ("gitlab", _) => self.gitlab,
            ("ecs", "RunTask") => self.run_task,
            ("ecs", "DescribeTasks") => self.describe_tasks,
            ("ecs", _) => 50,
            _ => 0,
        })
    }
}

/// So much simulated time passes at most while the machine moves packets between two sockets for [`REAL_PAUSE`].
const STEP: Duration = Duration::from_millis(5);
const REAL_PAUSE: Duration = Duration::from_micros(200);

/// Holds the paused clock back. Tokio moves it on whenever no task can run, also while the kernel still carries a packet
/// from one socket to another; a blocking task keeps it from that.
async fn hold_clock_back() {
    loop {
        tokio::time::sleep(STEP).await;
        let _ = tokio::task::spawn_blocking(|| std::thread::sleep(REAL_PAUSE)).await;
    }
}

/// A simulated world with its jobs.
pub struct World {
    pub sandbox: Sandbox,
    pub deeds: Deeds,
    pub jobs: Vec<JobHandle>,
    /// The most jobs that were ever claimed and had no task.
    pub most_unlaunched: Arc<Mutex<usize>>,
    _repositories: Vec<tempfile::TempDir>,
}

/// The number of jobs: the environment's, or CI's.
pub fn jobs(usual: usize) -> usize {
    std::env::var("MAYFLY_SIMULATION_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(usual)
}

/// Whether somebody chose the size of the run, on a machine that has nothing else to do.
pub fn is_by_hand() -> bool {
    std::env::var("MAYFLY_SIMULATION_JOBS").is_ok()
}

/// The seed: the environment's, or one of this moment.
pub fn seed() -> u64 {
    let given = std::env::var("MAYFLY_SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()) + jiff::Timestamp::now().as_second().unsigned_abs())
}

impl World {
    /// Starts a world whose tasks fare by `fates`.
    pub async fn start(fates: Fates, seed: u64, adjust: impl FnOnce(&mut Settings)) -> World {
        tokio::spawn(hold_clock_back());
        let deeds = Deeds::default();
        let noted = deeds.clone();
        let simulate = Arc::new(move |task| play(task, fates, seed, noted.clone()).boxed());
        let mut settings =
            Settings { runtime: Runtime::Simulated(simulate), clock: Clock::of_tokio(), ..Settings::default() };
        adjust(&mut settings);
        let sandbox = Sandbox::start(settings).await.expect("the sandbox starts");
        World { sandbox, deeds, jobs: Vec::new(), most_unlaunched: Arc::default(), _repositories: Vec::new() }
    }

    /// Lets every request take its time.
    pub fn set_latencies(&self, latencies: Latencies) {
        self.sandbox.traffic.set_gate(move |seen, moment| {
            let pause = latencies.of(&seen);
            async move {
                if moment == Moment::Arrived {
                    tokio::time::sleep(pause).await;
                }
                Verdict::Pass
            }
            .boxed()
        });
    }

    /// Makes `count` pending jobs with these tags at once.
    pub fn add_jobs(&mut self, count: usize, tags: &str) {
        for first in (0..count).step_by(PARALLEL) {
            let in_this = (count - first).min(PARALLEL);
            let parallel = if in_this > 1 { format!("\n  parallel: {in_this}") } else { String::new() };
            let text = format!("job:\n  tags: [{tags}]\n  script: ['true']{parallel}\n");
            let repository = repository(&[(".gitlab-ci.yml", &text)]);
            let project = self.sandbox.add_project(&format!("group/app-{first}"), repository.path());
            let pipeline = self.sandbox.gitlab.run_pipeline(project, "main").expect("the pipeline is read");
            self.jobs.extend(pipeline.jobs());
            self._repositories.push(repository);
        }
    }

    /// Looks at the world four times a simulated second until all jobs have ended and nothing is left of them.
    ///
    /// # Panics
    /// If that takes longer than `patience` of simulated time.
    pub async fn run(&self, patience: Duration) {
        let began = self.sandbox.clock.now();
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            self.count_unlaunched();
            let passed = self.sandbox.clock.now().duration_since(began);
            let statuses: Vec<String> = self.jobs.iter().map(JobHandle::status).collect();
            let is_over = statuses.iter().all(|status| matches!(status.as_str(), "success" | "failed" | "canceled"));
            if is_over && self.is_settled() {
                return;
            }
            let open = statuses.iter().filter(|status| !matches!(status.as_str(), "success" | "failed")).count();
            let in_time = passed <= jiff::SignedDuration::try_from(patience).expect("a duration");
            assert!(in_time, "{open} jobs have not ended after {passed:#}: {:?}", self.state());
            if passed.as_secs() % 60 == 0 {
                self.sandbox.gitlab.sweep();
            }
        }
    }

    fn state(&self) -> (usize, usize, usize) {
        let claims = self.sandbox.s3.keys("ledger").iter().filter(|key| key.starts_with("claims/")).count();
        (claims, self.sandbox.ecs.live_tasks(), self.sandbox.deployment.queue().visible())
    }

    fn is_settled(&self) -> bool {
        let (claims, tasks, _) = self.state();
        claims == 0 && tasks == 0
    }

    fn count_unlaunched(&self) {
        let running = self.jobs.iter().filter(|job| job.status() == "running");
        let waits = running.filter(|job| self.deeds.of(job.id()).tasks == 0).count();
        let mut most = self.most_unlaunched.lock().expect("no panic");
        *most = (*most).max(waits);
    }
}
