//! A tick over many live jobs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use mayfly::ledger::{Attempt, ClaimFacts, JobKey, LaunchState, Ledger, Phase, Record};
use mayfly::sandbox::Settings;
use serde_json::json;

use crate::bursts::SMOOTH;
use crate::world::{Latencies, World, jobs, seed};

const FAR: Latencies = Latencies { s3: 25, gitlab: 60, run_task: 500, describe_tasks: 200 };
/// One function may take so long for 10,000 live jobs.
const SECONDS_FOR_TEN_THOUSAND: f64 = 15.0;

/// Jobs whose helpers are at work.
async fn add_live_jobs(ledger: &Ledger, gitlab: &str, count: usize, now: Timestamp) {
    let jobs = (1..=count as u64).map(|id| async move {
        let job = JobKey::new(&gitlab.parse().expect("a URL"), id);
        let facts = ClaimFacts { runner: "mayfly".into(), gitlab: gitlab.into(), at: now };
        ledger.store_claim(&job, Bytes::from_static(b"{}"), &facts).await.expect("it is stored");
        let mut record = Record::claimed(job, "mayfly", gitlab, "abc".into(), now, 3600);
        record.phase = Phase::Opened;
        let task = format!("arn:aws:ecs:us-east-1:123456789012:task/mayfly/{id:032x}");
        let state = LaunchState::Started { task };
        record.attempt = Some(Attempt { number: 1, run_task: json!({}), at: now, state });
        ledger.create_record(record).await.expect("it is stored");
    });
    stream::iter(jobs).buffer_unordered(16).collect::<Vec<()>>().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_over_many_live_jobs_is_short_and_no_knock_waits_for_it() {
    let (count, seed, began) = (jobs(1000), seed(), Instant::now());
    let only_one = |settings: &mut Settings| (settings.dispatchers, settings.ticks) = (1, false);
    let world = World::start(SMOOTH, seed, only_one).await;
    let (sandbox, clock) = (&world.sandbox, &world.sandbox.clock);
    add_live_jobs(sandbox.deployment.ledger(), &sandbox.gitlab.url(), count, clock.now()).await;
    world.set_latencies(FAR);
    sandbox.traffic.forget();

    let from = clock.now();
    sandbox.deployment.tick();
    let is_over = || sandbox.deployment.running() == 0 && sandbox.deployment.queue().visible() == 0;
    tokio::time::sleep(Duration::from_millis(50)).await;
    while !is_over() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = clock.now().duration_since(from).as_secs_f64();
    let described = sandbox.traffic.seen().iter().filter(|seen| seen.path == "DescribeTasks").count();
    println!(
        "a tick over {count} live jobs: {took:.1} s of one function ({:.1} s here)",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(described, count.div_ceil(100), "all tasks were described, a hundred at a time");
    assert!(took <= SECONDS_FOR_TEN_THOUSAND, "{took} s for {count} jobs");
    world.sandbox.shutdown().await;
}
