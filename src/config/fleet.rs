//! The fleet configuration as the functions use it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::document::Document;
use super::refused;
use super::settings::JobSettings;
use super::stack::Stack;

/// The whole configuration: what the stack tells of itself, and what a person wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// `r_` and 12 characters: one per deployment, for all its runners.
    pub system_id: String,
    /// The AWS region that tasks run in; decides the price table.
    pub region: String,
    /// What our own names in AWS begin with: the stack's name, so that two stacks in one account never meet.
    pub prefix: String,
    /// Where tasks run.
    pub tasks: Tasks,
    /// The broker and the agent that it hands out.
    pub broker: Broker,
    /// The ledger's bucket.
    pub ledger: Bucket,
    /// The cache's bucket and layout.
    pub cache: Cache,
    /// Images of our containers, and of jobs that name none.
    pub images: Images,
    /// Sizes of jobs that ask for none, and the most that a job may ask for; runners can replace both.
    pub size: SizeLimits,
    /// How fast tasks may be launched.
    pub launch: LaunchLimits,
    /// What every runner does with its jobs; runners can replace each setting.
    pub settings: JobSettings,
    /// 1 to 20 runners.
    pub runners: Vec<Runner>,
}

/// Where tasks run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// The ECS cluster's name.
    pub cluster: String,
    /// Subnets of the tasks.
    pub subnets: Vec<String>,
    /// Security groups of the tasks: no ingress needed.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Tasks in public subnets need an address of their own to reach GitLab.
    #[serde(default = "yes")]
    pub assign_public_ip: bool,
    /// The role that pulls images and reads the launch key; never seen by a job.
    pub execution_role: String,
    /// The secret with the launch key, as ECS reads it (`valueFrom`).
    pub launch_key: String,
    /// The CloudWatch log group of the helper and build containers' own output; none without it.
    #[serde(default)]
    pub log_group: Option<String>,
}

/// The broker and the agent that it hands out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Its URL as tasks reach it. The broker itself does not need it.
    #[serde(default)]
    pub url: Option<Url>,
    /// The bucket with `agents/<sha256>`.
    pub agents_bucket: String,
    /// The agent's SHA-256 in hex, by architecture: `amd64`, `arm64`.
    #[serde(default)]
    pub agents: BTreeMap<String, String>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Its name.
    pub bucket: String,
}

/// The cache's bucket and layout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cache {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with.
    pub path: String,
    /// All runners share one cache: the runner's short token is not in the keys.
    pub shared: bool,
    /// The largest archive in bytes; 0 is no limit.
    pub max_uploaded_archive_size: u64,
}

/// What a runner replaces of [`Cache`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunnerCache {
    /// See [`Cache::path`].
    #[serde(alias = "Path")]
    pub path: Option<String>,
    /// See [`Cache::shared`].
    #[serde(alias = "Shared")]
    pub shared: Option<bool>,
    /// See [`Cache::max_uploaded_archive_size`].
    #[serde(alias = "MaxUploadedArchiveSize")]
    pub max_uploaded_archive_size: Option<u64>,
}

/// Images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Images {
    /// The helper container's on amd64: git, git-lfs, wget and sh.
    pub helper: String,
    /// The same on arm64.
    pub helper_arm64: String,
    /// For jobs that name none; without it such a job fails.
    pub default: Option<String>,
    /// Who may pull from which private registry.
    pub registries: Vec<Registry>,
}

/// A private registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Its host, as image names begin: `registry.gitlab.com`.
    pub host: String,
    /// The Secrets Manager secret with `username` and `password`.
    pub credentials: String,
    /// The ids of the projects that may use it.
    pub projects: Vec<u64>,
}

/// Sizes, in the users' words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizeLimits {
    /// vCPUs of a job that asks for nothing.
    pub cpu: Option<String>,
    /// Memory of a job that asks for nothing.
    pub memory: Option<String>,
    /// Disk of a job that asks for none.
    pub disk: Option<String>,
    /// `amd64` or `arm64`.
    pub arch: Option<String>,
    /// Spot unless the job says otherwise.
    pub spot: Option<bool>,
    /// The most vCPUs.
    pub max_cpu: Option<String>,
    /// The most memory.
    pub max_memory: Option<String>,
    /// The most disk.
    pub max_disk: Option<String>,
}

/// How fast tasks may be launched: the Fargate launch rate of the account in its region. A lower one is learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaunchLimits {
    /// Tasks at once.
    pub burst: u32,
    /// Tasks per second after that.
    pub per_second: u32,
}

impl Default for LaunchLimits {
    fn default() -> Self {
        LaunchLimits { burst: 100, per_second: 20 }
    }
}

/// One runner of a GitLab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// Unique in the fleet; people read it in the trace.
    pub name: String,
    /// Its GitLab.
    pub url: Url,
    /// GitLab's id of the runner, if known: lets a hook tell a claim that was lost.
    #[serde(default)]
    pub id: Option<u64>,
    /// The certificates that its GitLab is trusted by besides the public ones, in PEM.
    #[serde(default)]
    pub tls_ca: Option<String>,
    /// How many jobs it may have at once; unlimited without it.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only for the trace: GitLab itself keeps unprotected refs away from a protected runner.
    #[serde(default)]
    pub protected: bool,
    /// Replaces the fleet's sizes, entry by entry.
    #[serde(default)]
    pub size: SizeLimits,
    /// Replaces the fleet's settings, entry by entry.
    #[serde(default)]
    pub settings: JobSettings,
    /// Replaces the fleet's cache, entry by entry.
    #[serde(default)]
    pub cache: RunnerCache,
}

/// Why a fleet configuration is refused.
#[derive(Debug, Error)]
pub enum FleetError {
    /// It is not TOML, or not of this shape.
    #[error("the fleet configuration cannot be read")]
    Unreadable(#[from] toml::de::Error),
    /// It says something impossible.
    #[error("the fleet configuration is wrong: {0}")]
    Wrong(String),
}

impl Fleet {
    /// Reads and checks a document that says everything itself, as the sandbox's does.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub fn read(text: &str) -> Result<Fleet, FleetError> {
        Fleet::read_in(&Stack::default(), text)
    }

    /// Reads and checks the document of a deployed `stack`.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub fn read_in(stack: &Stack, text: &str) -> Result<Fleet, FleetError> {
        if let Some(sentence) = refused::refused_key(text) {
            return Err(FleetError::Wrong(sentence));
        }
        let document: Document = toml::from_str(text)?;
        let fleet = document.complete(stack).map_err(FleetError::Wrong)?;
        fleet.check().map_err(FleetError::Wrong)?;
        Ok(fleet)
    }

    /// What a new configuration changes, part by part, for the log; no values.
    pub fn changes(&self, new: &Fleet) -> Vec<String> {
        let mut changes = Vec::new();
        let mut part = |name: &str, same: bool| {
            if !same {
                changes.push(format!("`{name}` changed"));
            }
        };
        part("tasks", self.tasks == new.tasks);
        part("broker", self.broker == new.broker);
        part("cache", self.cache == new.cache);
        part("images", self.images == new.images);
        part("size", self.size == new.size);
        part("launch", self.launch == new.launch);
        part("settings", self.settings == new.settings);
        for runner in &new.runners {
            match self.runner(&runner.name) {
                None => changes.push(format!("runner `{}` is new", runner.name)),
                Some(old) if old != runner => changes.push(format!("runner `{}` changed", runner.name)),
                Some(_) => {}
            }
        }
        let gone = self.runners.iter().filter(|runner| new.runner(&runner.name).is_none());
        changes.extend(gone.map(|runner| format!("runner `{}` is gone", runner.name)));
        changes
    }

    /// The certificates that the GitLab at `instance` is trusted by besides the public ones, in PEM.
    pub fn tls_ca(&self, instance: &Url) -> Option<&str> {
        self.runners.iter().find(|runner| runner.url == *instance).and_then(|runner| runner.tls_ca.as_deref())
    }

    /// The runner called `name`.
    pub fn runner(&self, name: &str) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.name == name)
    }

    /// The sizes that hold for `runner`.
    pub fn size_for(&self, runner: &Runner) -> SizeLimits {
        let (own, all) = (&runner.size, &self.size);
        let first = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
        SizeLimits {
            cpu: first(&own.cpu, &all.cpu),
            memory: first(&own.memory, &all.memory),
            disk: first(&own.disk, &all.disk),
            arch: first(&own.arch, &all.arch),
            spot: own.spot.or(all.spot),
            max_cpu: first(&own.max_cpu, &all.max_cpu),
            max_memory: first(&own.max_memory, &all.max_memory),
            max_disk: first(&own.max_disk, &all.max_disk),
        }
    }

    /// The settings that hold for `runner`.
    pub fn settings_for(&self, runner: &Runner) -> JobSettings {
        runner.settings.over(&self.settings)
    }

    /// The cache as it is for `runner`.
    pub fn cache_for(&self, runner: &Runner) -> Cache {
        let (own, all) = (&runner.cache, &self.cache);
        Cache {
            bucket: all.bucket.clone(),
            path: own.path.clone().unwrap_or_else(|| all.path.clone()),
            shared: own.shared.unwrap_or(all.shared),
            max_uploaded_archive_size: own.max_uploaded_archive_size.unwrap_or(all.max_uploaded_archive_size),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.settings.check()?;
        if !(1..=20).contains(&self.runners.len()) {
            return Err(format!("1 to 20 runners, not {}", self.runners.len()));
        }
        for (i, runner) in self.runners.iter().enumerate() {
            if runner.name.trim().is_empty() || self.runners[..i].iter().any(|other| other.name == runner.name) {
                return Err(format!("each runner needs a name of its own; look at `{}`", runner.name));
            }
            if !matches!(runner.url.scheme(), "http" | "https") || runner.url.host_str().is_none() {
                return Err(format!("`url` of runner `{}` is not an http or https URL", runner.name));
            }
            if runner.tls_ca.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
                return Err(format!("`tls_ca` of runner `{}` holds no certificate in PEM", runner.name));
            }
            runner.settings.check().map_err(|error| format!("runner `{}`: {error}", runner.name))?;
        }
        let id = self.system_id.strip_prefix("r_").unwrap_or_default();
        if id.len() != 12 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err("`system_id` is `r_` and 12 letters or digits".into());
        }
        if self.launch.burst == 0 || self.launch.per_second == 0 {
            return Err("`launch.burst` and `launch.per_second` are at least 1".into());
        }
        if self.tasks.subnets.is_empty() {
            return Err("`tasks.subnets` names no subnet".into());
        }
        for (arch, sha256) in &self.broker.agents {
            if !matches!(arch.as_str(), "amd64" | "arm64") || sha256.len() != 64 || hex::decode(sha256).is_err() {
                return Err(format!("`broker.agents.{arch}` is no SHA-256 of an amd64 or arm64 agent"));
            }
        }
        Ok(())
    }
}

impl Default for Images {
    fn default() -> Self {
        Images {
            helper: "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-latest".into(),
            helper_arm64: "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:arm64-latest".into(),
            default: None,
            registries: Vec::new(),
        }
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        system_id = "r_0123456789ab"
        region = "us-east-1"
        [tasks]
        cluster = "mayfly"
        subnets = ["subnet-1"]
        execution_role = "arn:aws:iam::1:role/x"
        launch_key = "arn:aws:secretsmanager:us-east-1:1:secret:launch"
        [broker]
        url = "https://broker.test"
        agents_bucket = "agents"
        [broker.agents]
        [ledger]
        bucket = "ledger"
        [cache]
        bucket = "cache"
        [[runners]]
        name = "one"
        url = "https://gitlab.test"
    "#;

    #[test]
    fn the_smallest_configuration_is_read() {
        let fleet = Fleet::read(SMALLEST).unwrap();
        assert!(fleet.tasks.assign_public_ip);
        assert_eq!(fleet.prefix, "mayfly");
        assert_eq!(fleet.size_for(&fleet.runners[0]), SizeLimits::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (from, to, said) in [
            ("r_0123456789ab", "r_short", "system_id"),
            ("[\"subnet-1\"]", "[]", "subnets"),
            ("https://gitlab.test", "ftp://gitlab.test", "`one`"),
            ("[broker.agents]", "[broker.agents]\nmips = \"00\"", "broker.agents.mips"),
            ("region =", "regoin =", "line 3"),
            ("[ledger]", "[settings]\nprivileged = true\n[ledger]", "`privileged` cannot be set"),
            ("[ledger]", "[settings]\noutput_limit = 'much'\n[ledger]", "invalid type"),
            ("name = \"one\"", "name = \"one\"\nsettings = { output_limit = 0 }", "runner `one`: `output_limit`"),
            ("name = \"one\"", "name = \"one\"\ntls_ca = \"ca.pem\"", "`tls_ca` of runner `one`"),
            ("name = \"one\"", "name = \"one\"\ntoken = \"glrt-x\"", "`token` cannot be set: a token is a secret"),
            ("[ledger]\n        bucket = \"ledger\"", "", "`[ledger]` is missing"),
            ("bucket = \"cache\"", "shared = true", "`cache.bucket` is missing"),
        ] {
            let error = anyhow::Error::from(Fleet::read(&SMALLEST.replace(from, to)).unwrap_err());
            assert!(format!("{error:#}").contains(said), "{to}: {error:#}");
        }
    }

    #[test]
    fn a_runner_replaces_the_parts_of_the_cache_that_it_names() {
        let text = SMALLEST.replace("bucket = \"cache\"", "bucket = \"cache\"\nPath = \"a\"\nShared = true");
        let text = format!("{text}\n[runners.cache]\nPath = \"b\"\nMaxUploadedArchiveSize = 7");
        let fleet = Fleet::read(&text).unwrap();
        let cache = fleet.cache_for(&fleet.runners[0]);
        assert_eq!((cache.path.as_str(), cache.shared, cache.max_uploaded_archive_size), ("b", true, 7));
        assert!(Fleet::read(&text.replace("Shared = true", "Type = \"gcs\"")).is_err());
    }

    #[test]
    fn a_runner_replaces_the_sizes_that_it_names() {
        let text = format!("{SMALLEST}\n[runners.size]\ncpu = \"2\"")
            .replace("[ledger]", "[size]\ncpu = \"1\"\nmemory = \"4g\"\n[ledger]");
        let fleet = Fleet::read(&text).unwrap();
        let size = fleet.size_for(&fleet.runners[0]);
        assert_eq!((size.cpu.as_deref(), size.memory.as_deref()), (Some("2"), Some("4g")));
    }
}
