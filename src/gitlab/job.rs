//! Reads the claim: GitLab's 201 becomes our [`Job`] here, and nowhere else.
//!
//! A claim has no way back, so reading never fails as a whole where `id` and `token` can be had: a part with a shape
//! that we do not know is left out and named in [`Job::unread`], and whoever needs that part says so in GitLab.

use regex::bytes::Regex;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::parts::{
    Artifact, Cache, Credentials, Dependency, GitInfo, Image, JobFeatures, JobInfo, RunnerInfo, Script, Service, Step,
};
use super::{PolicyOptions, Secret, Variable, Variables};

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Job {
    /// GitLab's id of the job, unique in an instance.
    pub id: u64,
    /// The job token.
    pub token: SecretString,
    /// The default git strategy is `fetch`.
    pub allow_git_fetch: bool,
    /// Who and where.
    pub info: JobInfo,
    /// What to check out.
    pub git: GitInfo,
    /// The effective timeout.
    pub runner: RunnerInfo,
    /// As sent, not expanded.
    pub variables: Variables,
    /// What to run.
    pub steps: Vec<Step>,
    /// The job has a `run:` keyword, which nobody runs here.
    pub has_run: bool,
    /// Scripts around get_sources.
    pub hooks: Vec<Script>,
    /// The build container's image, if the job names one.
    pub image: Option<Image>,
    /// The job's services.
    pub services: Vec<Service>,
    /// What to upload, the reports included.
    pub artifacts: Vec<Artifact>,
    /// What to cache.
    pub cache: Vec<Cache>,
    /// Whose artifacts to fetch.
    pub dependencies: Vec<Dependency>,
    /// Registries that GitLab opens to the job.
    pub credentials: Vec<Credentials>,
    /// What the server can take.
    pub features: JobFeatures,
    /// Which policy added it, if one did.
    pub policy: PolicyOptions,
    /// What `secrets:` names, in order.
    pub secrets: Vec<Secret>,
    /// Names of the job's `inputs`.
    pub inputs: Vec<String>,
    /// Parts that could not be read.
    pub unread: Vec<Unread>,
}

/// A part of a claim with a shape that we do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The field's name in GitLab's payload.
    pub field: String,
    /// What was wrong, without the value.
    pub reason: String,
}

/// The least that is needed to end a job: who it is and the right to say so.
#[derive(Clone, Debug)]
pub struct Identity {
    /// GitLab's id of the job.
    pub id: u64,
    /// The job token.
    pub token: SecretString,
}

impl Job {
    /// Reads a claim's body.
    ///
    /// `None` when it is no JSON object with an `id` and a `token`; then [`identify`] may still find both.
    pub fn read(body: &[u8]) -> Option<Job> {
        let Value::Object(fields) = serde_json::from_slice(body).ok()? else { return None };
        let mut parts = Parts { fields, unread: Vec::new() };
        let id = parts.fields.get("id")?.as_u64()?;
        let token = SecretString::from(parts.fields.get("token")?.as_str()?);
        Some(Job {
            id,
            token,
            allow_git_fetch: parts.take("allow_git_fetch"),
            info: parts.take("job_info"),
            git: parts.take("git_info"),
            runner: parts.take("runner_info"),
            variables: parts.list::<Variable>("variables").into_iter().collect(),
            steps: parts.list("steps"),
            has_run: parts.fields.get("run").is_some_and(|run| !is_nothing(run)),
            hooks: parts.list("hooks"),
            image: parts.take("image"),
            services: parts.list("services"),
            artifacts: parts.list("artifacts"),
            cache: parts.list("cache"),
            dependencies: parts.list("dependencies"),
            credentials: parts.list("credentials"),
            features: parts.take("features"),
            policy: parts.take("policy_options"),
            secrets: parts.secrets(),
            inputs: parts.names("inputs"),
            unread: parts.unread,
        })
    }

    /// The step called `name`.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// Finds a job's `id` and `token` in a claim, even in one that is cut off or no JSON at all.
pub fn identify(body: &[u8]) -> Option<Identity> {
    if let Some(job) = Job::read(body) {
        return Some(Identity { id: job.id, token: job.token });
    }
    // GitLab writes both first, before any value that a stranger can choose.
    let field = |pattern: &str| {
        let found = Regex::new(pattern).ok()?.captures(body)?.get(1)?.as_bytes().to_vec();
        String::from_utf8(found).ok()
    };
    let id = field(r#""id"\s*:\s*([0-9]{1,19})"#)?.parse().ok()?;
    let token = field(r#""token"\s*:\s*"([A-Za-z0-9._=-]{1,8192})""#)?;
    Some(Identity { id, token: token.into() })
}

struct Parts {
    fields: Map<String, Value>,
    unread: Vec<Unread>,
}

impl Parts {
    fn take<T: Default + DeserializeOwned>(&mut self, name: &str) -> T {
        match self.fields.remove(name) {
            None | Some(Value::Null) => T::default(),
            Some(value) => self.read(name.to_owned(), value).unwrap_or_default(),
        }
    }

    fn list<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => {
                let named = items.into_iter().enumerate().map(|(i, item)| (format!("{name}[{i}]"), item));
                named.filter_map(|(name, item)| self.read(name, item)).collect()
            }
            Some(other) => {
                self.unread.push(Unread { field: name.to_owned(), reason: format!("a list, not {}", kind(&other)) });
                Vec::new()
            }
        }
    }

    fn secrets(&mut self) -> Vec<Secret> {
        let secrets = match self.fields.remove("secrets") {
            Some(Value::Object(secrets)) => secrets,
            Some(other) if !is_nothing(&other) => {
                self.unread
                    .push(Unread { field: "secrets".into(), reason: format!("an object, not {}", kind(&other)) });
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        let read = secrets.into_iter().filter_map(|(name, value)| {
            let wrong = |expected| {
                self.unread.push(Unread { field: format!("secrets:{name}"), reason: format!("expected {expected}") })
            };
            Secret::read(&name, value).map_err(wrong).ok()
        });
        read.collect()
    }

    /// The keys of an object, or the `key`s of a list of objects.
    fn names(&mut self, name: &str) -> Vec<String> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(map)) => map.into_iter().map(|(key, _)| key).collect(),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item["key"].as_str().unwrap_or("(without a name)").to_owned()).collect()
            }
            Some(other) => vec![format!("({})", kind(&other))],
        }
    }

    fn read<T: DeserializeOwned>(&mut self, field: String, value: Value) -> Option<T> {
        let was = kind(&value);
        match serde_json::from_value(value) {
            Ok(part) => Some(part),
            Err(error) => {
                // serde quotes the value for a wrong type: only what was expected may be told, it may be a secret.
                let text = error.to_string();
                let expected = text.rsplit_once("expected ").map_or("another shape", |(_, what)| what);
                self.unread.push(Unread { field, reason: format!("expected {expected}, in {was}") });
                None
            }
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn one_field_of_an_unknown_shape_costs_that_field_only() {
        let body = br#"{"id": 7, "token": "glcbt-1", "image": {"name": ["x"]}, "services": [{"name": "redis"}, 3],
            "variables": [{"key": "N", "value": 5}, {"key": "OK", "value": "yes", "public": true}],
            "steps": [{"name": "script", "script": ["true"], "when": "on_success"}], "cache": "none"}"#;

        let job = Job::read(body).expect("id and token are there");

        assert_eq!((job.id, job.token.expose_secret()), (7, "glcbt-1"));
        assert_eq!(job.variables.get("N"), Some("5"));
        assert_eq!(job.services.len(), 1);
        assert!(job.image.is_none());
        let unread: Vec<_> = job.unread.iter().map(|u| u.field.as_str()).collect();
        assert_eq!(unread, ["image", "services[1]", "cache"]);
    }

    #[test]
    fn what_could_not_be_read_is_told_without_its_value() {
        let job = Job::read(br#"{"id": 7, "token": "t", "steps": [{"name": "script", "when": "hunter2"}]}"#).unwrap();
        assert_eq!(job.unread.len(), 1);
        assert!(!job.unread[0].reason.contains("hunter2"), "{}", job.unread[0].reason);
    }

    #[test]
    fn a_claim_that_is_cut_off_still_names_its_job() {
        let identity = identify(br#"{"id":12,"token":"glcbt-64_x","job_info":{"na"#).expect("both are there");
        assert_eq!((identity.id, identity.token.expose_secret()), (12, "glcbt-64_x"));
        assert!(identify(b"<html>502</html>").is_none());
    }

    #[test]
    fn nothing_and_null_are_the_same() {
        let job = Job::read(br#"{"id": 1, "token": "t", "run": null, "steps": null, "image": null, "inputs": []}"#);
        let job = job.unwrap();
        assert!(!job.has_run && job.image.is_none() && job.unread.is_empty());
    }
}
