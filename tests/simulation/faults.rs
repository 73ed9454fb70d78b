//! All faults at once: whatever dies, is lost, comes twice or is refused, each job ends once and rightly.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use mayfly::sandbox::ecs::Faults;
use mayfly::sandbox::gitlab::JobHandle;
use mayfly::sandbox::traffic::{Moment, Seen, Verdict};

use crate::helper::{Deed, Fates};
use crate::random::Random;
use crate::world::{USUAL, World, jobs, seed};

const ROUGH: Fates = Fates {
    starts: (10, 60),
    runs: (5, 300),
    fail_to_start: 0.02,
    die_early: 0.02,
    die_late: 0.02,
    interrupted: 0.02,
    fail: 0.05,
};

/// How often something goes wrong, per request, message or event.
struct Rates {
    s3_error: f64,
    gitlab_error: f64,
    gitlab_busy: f64,
    gitlab_conflict: f64,
    gitlab_unauthorized: f64,
    gitlab_slow: f64,
    hang: f64,
    ecs_throttle: f64,
    ecs_error: f64,
    no_capacity: f64,
    kill: f64,
    message_lost: f64,
    message_doubled: f64,
    event_lost: f64,
    event_doubled: f64,
}

const RATES: Rates = Rates {
    s3_error: 0.005,
    gitlab_error: 0.01,
    gitlab_busy: 0.01,
    gitlab_conflict: 0.05,
    gitlab_unauthorized: 0.01,
    gitlab_slow: 0.01,
    hang: 0.002,
    ecs_throttle: 0.02,
    ecs_error: 0.02,
    no_capacity: 0.02,
    kill: 0.0005,
    message_lost: 0.02,
    message_doubled: 0.05,
    event_lost: 0.02,
    event_doubled: 0.05,
};

/// What a request meets before or behind its handler.
fn verdict(seen: &Seen, moment: Moment, random: &mut Random) -> Verdict {
    let (before, path) = (moment == Moment::Arrived, seen.path.as_str());
    match seen.server {
        // Behind its effect an error is one that the caller must not take for a refusal.
        "s3" if random.chance(RATES.s3_error / 2.0) => Verdict::Status(if before { 503 } else { 500 }),
        "gitlab" if before && path.ends_with("/jobs/request") && random.chance(RATES.gitlab_conflict) => {
            Verdict::Status(409)
        }
        "gitlab" if before && random.chance(RATES.gitlab_busy) => Verdict::Status(429),
        "gitlab"
            if before && seen.method == "GET" && path.ends_with("/job") && random.chance(RATES.gitlab_unauthorized) =>
        {
            Verdict::Status(401)
        }
        // An error behind a claim is a lost job: GitLab sends none. The dispatcher's death makes the others.
        "gitlab" if (before || !path.ends_with("/jobs/request")) && random.chance(RATES.gitlab_error / 2.0) => {
            Verdict::Status(502)
        }
        "broker" if random.chance(RATES.hang / 2.0) => Verdict::Cut,
        _ => Verdict::Pass,
    }
}

/// Stands before all servers.
fn set_faults(world: &World, seed: u64) {
    let random = Arc::new(Mutex::new(Random::new(seed, u64::MAX)));
    let (deployment, faults) = (world.sandbox.deployment.clone(), world.sandbox.ecs.faults());
    let kills = Arc::new(Mutex::new(0));
    let drawn = Arc::clone(&random);
    world.sandbox.traffic.set_gate(move |seen, moment| {
        let mut random = drawn.lock().expect("no panic");
        let mut pause = if moment == Moment::Arrived { USUAL.of(&seen) } else { Duration::ZERO };
        if seen.server == "gitlab" && random.chance(RATES.gitlab_slow) {
            pause += Duration::from_secs(random.between(5, 28));
        }
        if moment == Moment::Arrived && seen.server == "ecs" {
            set_ecs_faults(&faults, &seen.path, &mut random);
        }
        let is_dispatcher = seen.user_agent.contains("dispatcher");
        if is_dispatcher && random.chance(RATES.kill / 2.0) {
            *kills.lock().expect("no panic") += 1;
            deployment.kill_dispatcher();
        }
        let verdict = verdict(&seen, moment, &mut random);
        async move {
            tokio::time::sleep(pause).await;
            verdict
        }
        .boxed()
    });
    let drawn = Arc::clone(&random);
    world.sandbox.deployment.queue().set_copies(move || {
        let mut random = drawn.lock().expect("no panic");
        let doubled = if random.chance(RATES.message_doubled) { 2 } else { 1 };
        if random.chance(RATES.message_lost) { 0 } else { doubled }
    });
}

fn set_ecs_faults(faults: &Faults, operation: &str, random: &mut Random) {
    faults.throttle(operation, u32::from(random.chance(RATES.ecs_throttle)));
    if random.chance(RATES.ecs_error) {
        let when = if random.chance(0.5) {
            mayfly::sandbox::ecs::When::BeforeEffect
        } else {
            mayfly::sandbox::ecs::When::AfterEffect
        };
        faults.server_error(operation, 1, when);
    }
    if operation == "RunTask" && random.chance(RATES.no_capacity) {
        faults.capacity_unavailable(1);
    }
    if random.chance(RATES.event_lost) {
        faults.lose_events(1);
    }
    if random.chance(RATES.event_doubled) {
        faults.double_events(1);
    }
}

/// What became of one job.
#[derive(Debug, PartialEq, Eq)]
enum Verdicts {
    Right,
    /// GitLab gave it away, and the answer was never stored: the one window.
    LostClaim,
    Wrong(String),
}

fn judge(job: &JobHandle, deed: &Deed) -> Verdicts {
    let (status, reason) = (job.status(), job.failure_reason().unwrap_or_default());
    let wrong = |why: &str| Verdicts::Wrong(format!("job {}: {why}: {status} ({reason}), {deed:?}", job.id()));
    if job.finishes() != 1 {
        return wrong("it did not end once");
    }
    if deed.opened > 1 {
        return wrong("it ran twice");
    }
    if status == "failed" && reason == "no_updates_running" && deed.tasks == 0 {
        return Verdicts::LostClaim;
    }
    if reason == "no_updates_running" {
        return wrong("nobody reported its end");
    }
    match (deed.outcome, status.as_str()) {
        (Some("success"), "success") | (Some("failed"), "failed") => Verdicts::Right,
        // No helper ever had it, and the log says why.
        (None, "failed") if deed.tasks > 0 && reason == "runner_system_failure" => Verdicts::Right,
        _ => wrong("the wrong end"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_job_ends_once_and_rightly_whatever_happens() {
    let (seed, began) = (seed(), Instant::now());
    println!("seed {seed}");
    let mut world = World::start(ROUGH, seed, |_| {}).await;
    world.sandbox.ecs.faults().vcpu_limit(u32::MAX / 1024);
    set_faults(&world, seed);
    world.add_jobs(jobs(200), "cpu-1, mem-2g");
    world.run(Duration::from_secs(4 * 3600)).await;

    world.report("all faults", seed, began.elapsed());
    let judged: Vec<Verdicts> = world.jobs.iter().map(|job| judge(job, &world.deeds.of(job.id()))).collect();
    let lost = judged.iter().filter(|verdict| **verdict == Verdicts::LostClaim).count();
    let wrong: Vec<&Verdicts> = judged.iter().filter(|verdict| matches!(verdict, Verdicts::Wrong(_))).collect();
    println!("  lost claims: {lost}; longest time that a task outlived its job: {} s", outlived(&world));
    assert!(wrong.is_empty(), "{} wrong, seed {seed}: {wrong:#?}", wrong.len());
    assert!(outlived(&world) <= 180, "{} s, seed {seed}", outlived(&world));
    assert_eq!(world.sandbox.violations(), Vec::<String>::new());
    world.sandbox.shutdown().await;
}

/// The longest time between the end of a job and the end of its task, in seconds.
fn outlived(world: &World) -> i64 {
    let ended = |task: &mayfly::sandbox::ecs::TaskView| {
        let id: u64 = task.json["startedBy"].as_str()?.split('/').nth(2)?.parse().ok()?;
        let job = world.jobs.iter().find(|job| job.id() == id)?.finished_at()?;
        Some(task.json["stoppingAt"].as_f64()? as i64 - job.as_second())
    };
    world.sandbox.ecs.tasks().iter().filter_map(ended).max().unwrap_or_default()
}
