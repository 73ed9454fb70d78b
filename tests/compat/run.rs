//! Runs one pipeline in a sandbox of its own, and keeps what GitLab has of its jobs.

use std::collections::BTreeMap;

use mayfly::sandbox::Settings;
use mayfly::sandbox::gitlab::{ArtifactView, JobHandle};

use crate::support::{Story, agent, in_time, trace};

/// What GitLab has of a job that is over.
#[derive(Debug)]
pub struct Ended {
    pub status: String,
    pub reason: Option<String>,
    pub exit_code: Option<i64>,
    /// The whole trace.
    pub log: String,
    pub artifacts: Vec<ArtifactView>,
}

impl Ended {
    pub fn of(job: &JobHandle) -> Ended {
        Ended {
            status: job.status(),
            reason: job.failure_reason(),
            exit_code: job.exit_code(),
            log: trace(job),
            artifacts: job.artifacts(),
        }
    }

    /// Fails unless the job passed, with its log.
    #[track_caller]
    pub fn passed(&self) -> &Ended {
        assert_eq!(self.status, "success", "{}", self.log);
        self
    }

    /// Fails unless the job failed for this reason, with its log.
    #[track_caller]
    pub fn failed(&self, reason: &str) -> &Ended {
        assert_eq!((self.status.as_str(), self.reason.as_deref()), ("failed", Some(reason)), "{}", self.log);
        self
    }

    /// Fails unless the log contains each of `texts`, in this order.
    #[track_caller]
    pub fn says(&self, texts: &[&str]) -> &Ended {
        let mut rest = self.log.as_str();
        for text in texts {
            let Some(at) = rest.find(text) else {
                panic!("`{text}` is not there, or not in its place, in\n{}", self.log)
            };
            rest = &rest[at + text.len()..];
        }
        self
    }

    /// Fails if the log contains one of `texts`.
    #[track_caller]
    pub fn never_says(&self, texts: &[&str]) -> &Ended {
        for text in texts {
            assert!(!self.log.contains(text), "`{text}` is in\n{}", self.log);
        }
        self
    }
}

/// Runs the pipeline of a repository that has nothing but `pipeline`, and returns its jobs by name.
pub async fn jobs(pipeline: &str) -> BTreeMap<String, Ended> {
    jobs_with(Settings::default(), pipeline).await
}

/// [`jobs`] in a sandbox with `settings`; without another, their agent is the one that cargo built.
pub async fn jobs_with(settings: Settings, pipeline: &str) -> BTreeMap<String, Ended> {
    let story =
        Story::start_with(Settings { agent: settings.agent.clone().or_else(|| Some(agent())), ..settings }, pipeline)
            .await;
    let run = story.run();
    in_time(run.finished()).await;
    let ended = run.jobs().iter().map(|job| (job.name(), Ended::of(job))).collect();
    story.end().await;
    ended
}

/// Runs a pipeline of one job.
pub async fn job(pipeline: &str) -> Ended {
    let (_, job) = jobs(pipeline).await.pop_first().expect("the pipeline has a job");
    job
}
