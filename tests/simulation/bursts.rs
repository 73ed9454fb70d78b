//! Bursts of pending jobs: launched as fast as the quotas allow, each once.

use std::time::{Duration, Instant};

use mayfly::config::LaunchLimits;

use crate::helper::Fates;
use crate::world::{USUAL, World, seed};

pub const SMOOTH: Fates = Fates {
    starts: (10, 30),
    runs: (5, 60),
    fail_to_start: 0.0,
    die_early: 0.0,
    die_late: 0.0,
    interrupted: 0.0,
    fail: 0.0,
};

/// `RunTask` itself takes 20 calls at once and 20 in a second (aws.md §1.4).
const CALLS: f64 = 20.0;

async fn burst(name: &str, jobs: usize, (burst, per_second): (u32, u32)) {
    let (seed, began) = (seed(), Instant::now());
    let mut world = World::start(SMOOTH, seed, |settings| {
        settings.fleet = Box::new(move |fleet| fleet.launch = LaunchLimits { burst, per_second });
    })
    .await;
    world.sandbox.ecs.faults().launch_rate(burst.into(), per_second.into());
    world.sandbox.ecs.faults().vcpu_limit(u32::MAX / 1024);
    world.set_latencies(USUAL);
    let from = world.sandbox.clock.now();
    world.add_jobs(jobs, "cpu-1, mem-2g");
    world.run(Duration::from_secs(7200)).await;

    world.report(name, seed, began.elapsed());
    let created = |task: &mayfly::sandbox::ecs::TaskView| task.json["createdAt"].as_f64().unwrap_or_default();
    let last = world.sandbox.ecs.tasks().iter().map(created).fold(0.0, f64::max);
    let took = last - from.as_second() as f64 - f64::from(from.subsec_nanosecond()) / 1e9;
    let rate = f64::from(per_second).min(CALLS);
    let allowed = (jobs as f64 - f64::from(burst).min(CALLS)) / rate;
    println!("  launched in {took:.1} s; the quotas allow {allowed:.1} s: {:.3}", took / allowed);
    for job in &world.jobs {
        assert_eq!((job.status().as_str(), job.finishes()), ("success", 1), "job {}", job.id());
        assert_eq!(world.deeds.of(job.id()).tasks, 1, "job {}", job.id());
    }
    assert!(*world.most_unlaunched.lock().expect("no panic") <= 41);
    // Simulated time runs faster than a busy machine moves packets: the strict bound is for a run by hand.
    let most = if crate::world::is_by_hand() { allowed * 1.05 } else { allowed * 2.0 + 10.0 };
    assert!(took <= most, "{took} s, and the quotas allow {allowed} s");
    assert_eq!(world.sandbox.violations(), Vec::<String>::new());
    world.sandbox.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_at_the_quotas_of_a_large_region() {
    burst("large region", crate::world::jobs(300), (100, 20)).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_at_the_quotas_of_a_small_region() {
    burst("small region", crate::world::jobs(100), (25, 5)).await;
}
