//! Shows where the stand-ins listen: in lines for people, or in one line of JSON.
//!
//! ```text
//! {"gitlab": "<url>", "ecs": "<url>", "s3": "<url>", "cluster": "<arn>", "runner_token": "glrt-…",
//!  "private_token": "glpat-…", "project": 41, "branch": "main", "pipeline": 301}
//! ```
//!
//! `s3`, `project`, `branch` and `pipeline` are null without one.

use serde_json::{Value, json};

use crate::cli::screen::{Screen, Tone};

use super::project::Project;

/// What a caller needs to use the stand-ins.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) gitlab: String,
    pub(super) ecs: String,
    pub(super) s3: Option<String>,
    pub(super) cluster: String,
    pub(super) runner_token: String,
    pub(super) private_token: String,
    pub(super) project: Option<Project>,
}

impl Ready {
    pub(super) fn json(&self) -> Value {
        let project = self.project.as_ref();
        json!({
            "gitlab": self.gitlab,
            "ecs": self.ecs,
            "s3": self.s3,
            "cluster": self.cluster,
            "runner_token": self.runner_token,
            "private_token": self.private_token,
            "project": project.map(|project| project.id),
            "branch": project.map(|project| &project.branch),
            "pipeline": project.and_then(|project| project.pipeline),
        })
    }

    pub(super) fn show(&self, screen: Screen) {
        let line = |label: &str, text: &str| screen.line(Tone::Plain, &format!("{label:<14} {text}"));
        screen.line(Tone::Title, "The stand-ins for GitLab and ECS are ready.");
        line("GitLab", &self.gitlab);
        line("runner token", &self.runner_token);
        line("access token", &self.private_token);
        line("ECS", &self.ecs);
        line("cluster", &self.cluster);
        if let Some(s3) = &self.s3 {
            line("S3", s3);
        }
        let note = "Set AWS_ENDPOINT_URL_ECS and AWS_ENDPOINT_URL_CLOUDWATCH_LOGS of the functions to the URL of ECS.";
        screen.line(Tone::Faint, note);
        if let Some(Project { id, path, branch, .. }) = &self.project {
            line("project", &format!("{id}, {path}, branch {branch}"));
            let header = format!("PRIVATE-TOKEN: {}", self.private_token);
            let url = format!("{}/api/v4/projects/{id}", self.gitlab);
            screen.line(Tone::Faint, "Pipelines, with GitLab's own API:");
            screen.line(Tone::Plain, &format!("  curl -X POST -H '{header}' '{url}/pipeline?ref={branch}'"));
            screen.line(Tone::Plain, &format!("  curl -H '{header}' '{url}/pipelines'"));
            screen.line(Tone::Plain, &format!("  curl -H '{header}' '{url}/jobs/JOB/trace'"));
        }
        screen.line(Tone::Faint, "Press Ctrl-C to stop.");
        screen.line(Tone::Plain, "");
    }
}
