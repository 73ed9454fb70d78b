//! Many short jobs on few places: nothing waits that could go on.

use std::fmt::Write;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use mayfly::sandbox::Settings;

use crate::support::{Story, agent};

fn at_most(limit: u32) -> Settings {
    let fleet = Box::new(move |fleet: &mut mayfly::config::Fleet| fleet.runners[0].limit = Some(limit));
    let look_spacing = SignedDuration::from_millis(50);
    Settings { agent: Some(agent()), ticks: false, fleet, look_spacing, ..Settings::default() }
}

/// `jobs` trivial jobs in `stages` stages.
fn pipeline(stages: usize, jobs: usize) -> String {
    let names: Vec<String> = (0..stages).map(|stage| format!("stage-{stage}")).collect();
    let mut text = format!("stages: [{}]\n", names.join(", "));
    for job in 0..jobs {
        let _ = writeln!(text, "job-{job}:\n  stage: {}\n  script: [echo hello]", names[job * stages / jobs]);
    }
    text
}

async fn succeeds_within(story: &Story, patience: Duration) -> Duration {
    let begun = Instant::now();
    let pipeline = story.run();
    tokio::time::timeout(patience, pipeline.finished()).await.expect("it ends in time");
    assert_eq!(pipeline.status(), "success");
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_makes_room_for_the_next_without_a_tick() {
    let story = Story::start_with(at_most(2), &pipeline(1, 12)).await;

    succeeds_within(&story, Duration::from_secs(60)).await;

    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_in_five_stages_take_less_than_two_minutes() {
    let story = Story::start_with(at_most(4), &pipeline(5, 200)).await;

    let took = succeeds_within(&story, Duration::from_secs(120)).await;

    println!("200 jobs in 5 stages, 4 at a time: {took:.1?}");
    story.end().await;
}
