//! Writes the fleet configuration of a sandbox: the same document that a deployment reads.

use std::collections::BTreeMap;

use url::Url;

use crate::config::{
    Broker, Bucket, Cache, Fleet, FleetError, Images, JobSettings, LaunchLimits, Runner, RunnerCache, SizeLimits, Tasks,
};

use super::aws::REGION;

pub(super) const LEDGER: &str = "ledger";
pub(super) const CACHE: &str = "cache";
pub(super) const AGENTS: &str = "agents";
pub(super) const CLUSTER: &str = "mayfly";
pub(super) const LAUNCH_KEY_ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mayfly/launch-key";
const EXECUTION_ROLE: &str = "arn:aws:iam::123456789012:role/mayfly-execution";

/// What a sandbox's fleet is made of.
pub(super) struct FleetFacts<'a> {
    pub(super) gitlab: &'a str,
    pub(super) broker: &'a str,
    pub(super) agent_sha256: &'a str,
    pub(super) runners: &'a [(String, Option<u64>)],
    /// The cache outlives the runners: their tokens are not in its keys.
    pub(super) lasting_cache: bool,
}

/// The fleet configuration as TOML, changed by `adjust` and read back as a deployment would read it.
pub(super) fn fleet(facts: &FleetFacts<'_>, adjust: impl FnOnce(&mut Fleet)) -> Result<Fleet, FleetError> {
    let url = |text: &str| -> Result<Url, FleetError> {
        text.parse().map_err(|error: url::ParseError| FleetError::Wrong(format!("`{text}`: {error}")))
    };
    let gitlab = url(facts.gitlab)?;
    let runner = |(name, id): &(String, Option<u64>)| Runner {
        name: name.clone(),
        url: gitlab.clone(),
        id: *id,
        tls_ca: None,
        limit: None,
        protected: false,
        size: SizeLimits::default(),
        settings: JobSettings::default(),
        cache: RunnerCache::default(),
    };
    let mut fleet = Fleet {
        system_id: "r_sandbox00001".into(),
        region: REGION.into(),
        prefix: "mayfly".into(),
        tasks: Tasks {
            cluster: CLUSTER.into(),
            subnets: vec!["subnet-0a".into(), "subnet-0b".into()],
            security_groups: vec!["sg-0a".into()],
            assign_public_ip: true,
            execution_role: EXECUTION_ROLE.into(),
            launch_key: LAUNCH_KEY_ARN.into(),
            log_group: Some("/mayfly/tasks".into()),
        },
        broker: Broker {
            url: Some(url(facts.broker)?),
            agents_bucket: AGENTS.into(),
            agents: BTreeMap::from([("amd64".to_owned(), facts.agent_sha256.to_owned())]),
        },
        ledger: Bucket { bucket: LEDGER.into() },
        cache: Cache {
            bucket: CACHE.into(),
            path: String::new(),
            shared: facts.lasting_cache,
            max_uploaded_archive_size: 0,
        },
        images: Images { default: Some("busybox:latest".into()), ..Images::default() },
        size: SizeLimits { max_cpu: Some("16".into()), max_memory: Some("120g".into()), ..SizeLimits::default() },
        launch: LaunchLimits::default(),
        settings: JobSettings::default(),
        runners: facts.runners.iter().map(runner).collect(),
    };
    adjust(&mut fleet);
    let text = toml::to_string(&fleet).map_err(|error| FleetError::Wrong(error.to_string()))?;
    Fleet::read(&text)
}
