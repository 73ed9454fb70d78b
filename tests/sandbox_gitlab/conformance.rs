//! A client that others wrote, the crate `gitlab-runner`, runs a job from beginning to end.

use futures::future::BoxFuture;
use gitlab_runner::job::Job;
use gitlab_runner::{GitlabLayer, JobHandler, JobResult, Phase, RunnerBuilder, outputln};
use tracing::instrument::WithSubscriber;
use tracing_subscriber::prelude::*;

use crate::support::{ONE_JOB, World};

struct Echo;

// What the crate's `async_trait` makes of `async fn step(&mut self, script, phase) -> JobResult`.
impl JobHandler for Echo {
    fn step<'life0, 'life1, 'async_trait>(
        &'life0 mut self,
        script: &'life1 [String],
        _phase: Phase,
    ) -> BoxFuture<'async_trait, JobResult>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            outputln!("script: {}", script.join(";"));
            Ok(())
        })
    }
}

#[tokio::test]
async fn the_crate_gitlab_runner_runs_a_job() {
    let world = World::new(ONE_JOB).await;
    let pipeline = world.run();
    let folder = tempfile::tempdir().unwrap();
    let url = world.gitlab.url().parse().unwrap();
    let (layer, jobs) = GitlabLayer::new();
    let subscriber = tracing_subscriber::registry().with(layer);

    let got = async {
        let mut runner = RunnerBuilder::new(url, &world.runner, folder.path(), jobs).build().await;
        let got = runner.request_job(|_: Job| async { Ok::<_, ()>(Echo) }).await.unwrap();
        runner.drain().await;
        got
    }
    .with_subscriber(subscriber)
    .await;

    assert!(got);
    pipeline.finished().await;
    let job = pipeline.job("job").unwrap();
    assert_eq!(job.status(), "success");
    assert!(String::from_utf8(job.trace()).unwrap().contains("script: echo hello"));
}
