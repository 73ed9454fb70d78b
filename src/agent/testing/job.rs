//! Jobs and contexts for the tests of stages.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::gitlab::{BuildPlace, JobClient, Sender, Variable, http_client, job_variables};

use crate::agent::broker_client::BrokerClient;
use crate::agent::context::{Context, Place};
use crate::agent::log::JobLog;

/// The claim of a job and where it runs.
pub(in crate::agent) struct Job {
    claim: Value,
    variables: Vec<Variable>,
    builds_dir: String,
    gitlab: String,
}

impl Job {
    /// A job with these fields.
    pub(in crate::agent) fn new(mut fields: Value) -> Self {
        let fields = fields.as_object_mut().expect("an object");
        let mut claim = json!({"id": 7, "token": "glcbt-secret", "job_info": {"name": "test", "project_id": 3}});
        claim.as_object_mut().expect("an object").append(fields);
        Job { claim, variables: Vec::new(), builds_dir: "/builds".into(), gitlab: "http://127.0.0.1:1/".into() }
    }

    /// With a variable that is as it stands.
    pub(in crate::agent) fn variable(mut self, key: &str, value: &str) -> Self {
        self.variables.push(Variable { raw: false, ..Variable::public(key, value) });
        self
    }

    /// In this directory.
    pub(in crate::agent) fn within(mut self, builds_dir: &Path) -> Self {
        self.builds_dir = builds_dir.to_str().expect("a plain path").into();
        self
    }

    /// Of the GitLab at this URL.
    pub(in crate::agent) fn of(mut self, gitlab: &str) -> Self {
        self.gitlab = gitlab.into();
        self
    }
}

/// The job's context, as the helper makes it; children run as ourselves.
pub(in crate::agent) fn context(job: Job) -> Context {
    let claim = crate::gitlab::Job::read(job.claim.to_string().as_bytes()).expect("id and token are there");
    let place = BuildPlace { builds_dir: job.builds_dir.clone(), short_token: "abc".into(), ..BuildPlace::default() };
    let mut variables = job_variables(&claim, &place);
    job.variables.into_iter().for_each(|variable| variables.push(variable));
    let variables = variables.expanded();
    let environment: BTreeMap<_, _> = variables.iter().map(|v| (v.key.clone(), v.value.clone())).collect();
    let directory = crate::gitlab::project_directory(&claim, &job.builds_dir);
    let place = Place {
        builds_dir: job.builds_dir.into(),
        temp_dir: format!("{directory}.tmp").into(),
        project_dir: directory.into(),
    };
    let http = http_client(Sender::Helper).expect("a client");
    let url = job.gitlab.parse().expect("a URL");
    let gitlab = JobClient::new(http.clone(), &url, claim.id, claim.token.clone());
    Context {
        job: claim,
        variables,
        environment,
        place,
        cache: Vec::new(),
        log: JobLog::default(),
        gitlab: gitlab.clone(),
        gitlab_artifacts: gitlab,
        broker: BrokerClient::new(http, url),
        child_user: None,
        settings: Default::default(),
    }
}
