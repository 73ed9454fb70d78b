//! Owns how a job is named in the ledger: by its GitLab and its id.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

/// A job of a GitLab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// Host, port and path of the instance, in letters, digits, `.`, `-` and `_`.
    pub host: String,
    /// GitLab's job id.
    pub id: u64,
}

impl JobKey {
    /// Job `id` of the GitLab at `instance`.
    pub fn new(instance: &Url, id: u64) -> Self {
        JobKey { host: host_key(instance), id }
    }

    /// The key of its claim.
    pub fn claim(&self) -> String {
        format!("claims/{}/{}", self.host, self.id)
    }

    /// The key of its record.
    pub fn record(&self) -> String {
        format!("records/{}/{}", self.host, self.id)
    }

    /// The key of the environment file of service number `service`.
    pub fn service(&self, service: usize) -> String {
        format!("services/{}/{}/{service}.env", self.host, self.id)
    }

    /// Reads the key of a claim back.
    pub fn from_claim(key: &str) -> Option<JobKey> {
        let (host, id) = key.strip_prefix("claims/")?.split_once('/')?;
        Some(JobKey { host: host.into(), id: id.parse().ok()? })
    }

    /// What stands in a task's `startedBy` for attempt `attempt`: `mayfly/<hash of the host>/<job id>/<attempt>`.
    pub fn started_by(&self, attempt: u32) -> String {
        format!("mayfly/{}/{}/{attempt}", self.host_hash(), self.id)
    }

    /// Reads a `startedBy` back, for one of the GitLabs at `instances`.
    pub fn from_started_by<'a>(text: &str, instances: impl IntoIterator<Item = &'a Url>) -> Option<(JobKey, u32)> {
        let mut parts = text.strip_prefix("mayfly/")?.split('/');
        let (hash, id, attempt) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let keys = instances.into_iter().map(|instance| JobKey::new(instance, id));
        let key = keys.into_iter().find(|key| key.host_hash() == hash)?;
        parts.next().is_none().then_some((key, attempt))
    }

    /// The token by which ECS knows that a `RunTask` is the same again.
    pub fn client_token(&self, attempt: u32) -> String {
        hex::encode(Sha256::digest(format!("run-task\n{}\n{}\n{attempt}", self.host, self.id)))
    }

    fn host_hash(&self) -> String {
        hex::encode(&Sha256::digest(&self.host)[..6])
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.id)
    }
}

fn host_key(instance: &Url) -> String {
    let port = instance.port().map(|port| format!("_{port}")).unwrap_or_default();
    let text = format!("{}{port}{}", instance.host_str().unwrap_or_default(), instance.path().trim_end_matches('/'));
    text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_where_it_was_written() {
        let instance: Url = "https://gitlab.test:8443/git/".parse().unwrap();
        let other: Url = "https://other.test".parse().unwrap();
        let key = JobKey::new(&instance, 42);
        assert_eq!(key.claim(), "claims/gitlab.test_8443_git/42");
        assert_eq!(JobKey::from_claim(&key.claim()), Some(key.clone()));
        let started_by = key.started_by(3);
        assert!(started_by.len() <= 128);
        assert_eq!(JobKey::from_started_by(&started_by, [&other, &instance]), Some((key, 3)));
        assert_eq!(JobKey::from_started_by(&started_by, [&other]), None);
        assert_eq!(JobKey::from_started_by("somebody-else", [&instance]), None);
    }
}
