//! Owns the grant: what one running job may ask of the broker.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::JobKey;
use super::keys::{SigningKey, read_signed, sign};

/// What one running job may ask of the broker, until its record is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The job.
    pub job: JobKey,
    /// Its attempt.
    pub attempt: u32,
    /// One for each of the job's caches.
    pub caches: Vec<CacheGrant>,
}

/// The objects of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheGrant {
    /// May be read: the key's object, then the fallback keys'.
    pub restore: Vec<String>,
    /// May be written.
    pub save: Option<String>,
}

impl Grant {
    /// The grant's text.
    pub fn sign(&self, key: &SecretString) -> String {
        sign(key, "grant", self)
    }

    /// Reads a grant that was signed with `key`, or with the one before it.
    pub fn read(key: &SigningKey, text: &str) -> Option<Grant> {
        read_signed(key, "grant", text)
    }
}
