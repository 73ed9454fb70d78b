//! Reads webhook bodies: what a hook tells us is only a hint, so only the few fields behind the hint are read.

use serde::Deserialize;
use thiserror::Error;

/// What a genuine hook hints at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Jobs may wait.
    Pending {
        /// The jobs that the hook names as waiting; none if it names no job at all.
        jobs: Vec<u64>,
    },
    /// Some runner has claimed a job.
    Running {
        /// The job.
        job: u64,
        /// GitLab's id of the runner that has it.
        runner: Option<u64>,
    },
    /// A job has ended.
    Finished {
        /// The job.
        job: u64,
    },
    /// Nothing for us.
    Uninteresting,
}

/// Why a hook's body could not be read.
#[derive(Debug, Error)]
pub enum HookError {
    /// Not JSON, or no standard payload: a custom template can do that.
    #[error("not a standard GitLab payload; remove the custom webhook template")]
    Unreadable(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Body {
    object_kind: String,
    build_id: Option<u64>,
    build_status: Option<String>,
    runner: Option<Runner>,
    object_attributes: Option<Attributes>,
    builds: Option<Vec<Build>>,
}

#[derive(Deserialize)]
struct Build {
    id: Option<u64>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Runner {
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Attributes {
    status: Option<String>,
}

/// Reads a Job Hook or Pipeline Hook (gitlab-protocol.md §1.6, §1.7); every other event is uninteresting.
///
/// # Errors
/// When the body of such an event is no standard payload.
pub fn read_hook(event: Option<&str>, body: &[u8]) -> Result<Hook, HookError> {
    if !matches!(event, Some("Job Hook" | "Pipeline Hook" | "System Hook") | None) {
        return Ok(Hook::Uninteresting);
    }
    let body: Body = serde_json::from_slice(body).map_err(HookError::Unreadable)?;
    Ok(match body.object_kind.as_str() {
        "build" => job_hook(body),
        "pipeline" => pipeline_hook(body),
        _ => Hook::Uninteresting,
    })
}

/// A pipeline that has jobs, of which none waits, has nothing to claim.
fn pipeline_hook(body: Body) -> Hook {
    let status = body.object_attributes.and_then(|attributes| attributes.status);
    if !matches!(status.as_deref(), Some("pending" | "running")) {
        return Hook::Uninteresting;
    }
    let Some(builds) = body.builds else { return Hook::Pending { jobs: Vec::new() } };
    let waiting = builds.into_iter().filter(|build| build.status.as_deref() == Some("pending"));
    let jobs: Vec<u64> = waiting.filter_map(|build| build.id).collect();
    if jobs.is_empty() { Hook::Uninteresting } else { Hook::Pending { jobs } }
}

fn job_hook(body: Body) -> Hook {
    let (Some(job), Some(status)) = (body.build_id, body.build_status) else { return Hook::Uninteresting };
    match status.as_str() {
        "pending" => Hook::Pending { jobs: vec![job] },
        "running" => Hook::Running { job, runner: body.runner.and_then(|r| r.id) },
        "success" | "failed" | "canceled" => Hook::Finished { job },
        _ => Hook::Uninteresting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_read_for_its_hint_only() {
        let job = |status: &str| {
            format!(r#"{{"object_kind":"build","build_id":5,"build_status":"{status}","runner":{{"id":3}}}}"#)
        };
        let pipeline =
            |status: &str| format!(r#"{{"object_kind":"pipeline","object_attributes":{{"status":"{status}"}}}}"#);
        let with_builds = |builds: &str| {
            format!(r#"{{"object_kind":"pipeline","object_attributes":{{"status":"running"}},"builds":[{builds}]}}"#)
        };
        for (event, body, hook) in [
            ("Job Hook", job("pending"), Hook::Pending { jobs: vec![5] }),
            ("Job Hook", job("running"), Hook::Running { job: 5, runner: Some(3) }),
            ("Job Hook", job("success"), Hook::Finished { job: 5 }),
            ("Job Hook", job("canceled"), Hook::Finished { job: 5 }),
            ("Job Hook", job("created"), Hook::Uninteresting),
            ("Pipeline Hook", pipeline("running"), Hook::Pending { jobs: vec![] }),
            (
                "Pipeline Hook",
                with_builds(r#"{"id":5,"status":"success"},{"id":6,"status":"pending"}"#),
                Hook::Pending { jobs: vec![6] },
            ),
            ("Pipeline Hook", with_builds(r#"{"id":5,"status":"running"}"#), Hook::Uninteresting),
            ("Pipeline Hook", pipeline("success"), Hook::Uninteresting),
            ("Push Hook", "not even JSON".into(), Hook::Uninteresting),
        ] {
            assert_eq!(read_hook(Some(event), body.as_bytes()).unwrap(), hook, "{event} {body}");
        }
        assert!(read_hook(Some("Job Hook"), b"{\"mine\": 1}").is_err());
        assert!(read_hook(Some("Job Hook"), b"hello").is_err());
    }
}
