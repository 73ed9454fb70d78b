//! Keeps claims, records and the lease in one bucket of their own.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::store::{Store, StoreError, Version};
use super::wish::WISHES;
use super::{JobKey, Lease, Record, Wish};

/// Why the ledger could not be read or written.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object that we did not write like this.
    #[error("`{key}` in the ledger cannot be read")]
    Unreadable {
        /// The object.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Others were faster too often.
    #[error("`{0}` in the ledger is changed faster than we can")]
    Contended(String),
}

/// A value with the state that it was read in.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    version: Version,
}

/// What is written beside a claim's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFacts {
    /// The runner that claimed it, by its name in the fleet.
    pub runner: String,
    /// Its GitLab: the job can be ended even when the runner has left the fleet.
    pub gitlab: String,
    /// When.
    pub at: Timestamp,
}

/// A stored claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// GitLab's body, untouched.
    pub body: Bytes,
    /// Who and when.
    pub facts: ClaimFacts,
}

/// The ledger's bucket.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Store,
}

/// What a listing of claims and wishes returns.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The live jobs.
    pub jobs: Vec<JobKey>,
    /// The wishes, with their keys.
    pub wishes: Vec<(String, Wish)>,
}

const LEASE: &str = "lease";
/// How often a lost swap is tried again before we give up for now.
const SWAPS: u32 = 50;

impl Ledger {
    /// The ledger in `store`.
    pub fn new(store: Store) -> Self {
        Ledger { store }
    }

    /// Stores a claim. The same claim again is fine.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn store_claim(&self, job: &JobKey, body: Bytes, facts: &ClaimFacts) -> Result<(), LedgerError> {
        let metadata = [
            ("runner", hex::encode(&facts.runner)),
            ("gitlab", hex::encode(&facts.gitlab)),
            ("claimed-at", facts.at.to_string()),
        ];
        match self.store.create(&job.claim(), body, &metadata).await {
            Ok(_) | Err(StoreError::Lost(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The claim of `job`, until its record is settled.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim(&self, job: &JobKey) -> Result<Option<Claim>, LedgerError> {
        let Some(object) = self.store.get(&job.claim()).await? else { return Ok(None) };
        Ok(Some(Claim { body: object.body, facts: claim_facts(&object.metadata) }))
    }

    /// What is written beside the claim of `job`, without its body.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn claim_facts(&self, job: &JobKey) -> Result<Option<ClaimFacts>, LedgerError> {
        Ok(self.store.metadata(&job.claim()).await?.as_ref().map(claim_facts))
    }

    /// All live jobs: whose claim is still there.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn live_jobs(&self) -> Result<Vec<JobKey>, LedgerError> {
        Ok(self.store.list("claims/").await?.iter().filter_map(|key| JobKey::from_claim(key)).collect())
    }

    /// Deletes what only a live job needs: the environment of its `services` services, then its claim.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn forget(&self, job: &JobKey, services: usize) -> Result<(), LedgerError> {
        for service in 0..services {
            self.store.delete(&job.service(service)).await?;
        }
        Ok(self.store.delete(&job.claim()).await?)
    }

    /// Writes the environment file of service number `service`; returns its key.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn store_service(&self, job: &JobKey, service: usize, env: String) -> Result<String, LedgerError> {
        let key = job.service(service);
        self.store.put(&key, env.into()).await?;
        Ok(key)
    }

    /// The record of `job`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn record(&self, job: &JobKey) -> Result<Option<Stored<Record>>, LedgerError> {
        self.read(&job.record()).await
    }

    /// Creates a record, or returns the one that is there.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn create_record(&self, record: Record) -> Result<Stored<Record>, LedgerError> {
        let key = record.job.record();
        match self.store.create(&key, json(&record), &[]).await {
            Ok(version) => Ok(Stored { value: record, version }),
            Err(StoreError::Lost(_)) => self.read(&key).await?.ok_or(LedgerError::Contended(key)),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a record by `change`, on its newest state; what `change` refuses is not written.
    ///
    /// # Errors
    /// See [`LedgerError`]; the inner error is the refusal.
    pub async fn change<T, E>(
        &self,
        mut stored: Stored<Record>,
        change: impl Fn(&mut Record) -> Result<T, E>,
    ) -> Result<Result<(Stored<Record>, T), E>, LedgerError> {
        let key = stored.value.job.record();
        for _ in 0..SWAPS {
            let mut record = stored.value.clone();
            let result = match change(&mut record) {
                Ok(result) => result,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if record == stored.value {
                return Ok(Ok((stored, result)));
            }
            match self.store.swap(&key, &stored.version, json(&record)).await {
                Ok(version) => return Ok(Ok((Stored { value: record, version }, result))),
                Err(StoreError::Lost(_)) => {
                    stored = self.read(&key).await?.ok_or_else(|| LedgerError::Contended(key.clone()))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(LedgerError::Contended(key))
    }

    /// The lease as it stands; `None` before anybody took it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn lease(&self) -> Result<Option<Stored<Lease>>, LedgerError> {
        self.read(LEASE).await
    }

    /// Replaces the lease that was read as `stored`; `None` if another has written it since.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn write_lease(
        &self,
        stored: Option<&Stored<Lease>>,
        mut lease: Lease,
    ) -> Result<Option<Stored<Lease>>, LedgerError> {
        lease.sign(uuid::Uuid::new_v4().simple().to_string());
        let body = json(&lease);
        let written = match stored {
            Some(stored) => self.store.swap(LEASE, &stored.version, body).await,
            None => self.store.create(LEASE, body, &[]).await,
        };
        match written {
            Ok(version) => Ok(Some(Stored { value: lease, version })),
            Err(StoreError::Lost(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves a wish for the holder of the lease; returns its key.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn wish(&self, wish: &Wish) -> Result<String, LedgerError> {
        let key = wish.key(&uuid::Uuid::new_v4().simple().to_string());
        self.store.put(&key, Bytes::new()).await?;
        Ok(key)
    }

    /// Deletes a wish that was fulfilled.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn fulfilled(&self, key: &str) -> Result<(), LedgerError> {
        Ok(self.store.delete(key).await?)
    }

    /// The wishes.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn wishes(&self) -> Result<Vec<(String, Wish)>, LedgerError> {
        Ok(listing(&self.store.list(WISHES).await?).wishes)
    }

    /// Claims and wishes in one listing.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn live_jobs_and_wishes(&self) -> Result<Listing, LedgerError> {
        Ok(listing(&self.store.list("claims").await?))
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Stored<T>>, LedgerError> {
        let Some(object) = self.store.get(key).await? else { return Ok(None) };
        match serde_json::from_slice(&object.body) {
            Ok(value) => Ok(Some(Stored { value, version: object.version })),
            Err(source) => Err(LedgerError::Unreadable { key: key.to_owned(), source }),
        }
    }
}

fn claim_facts(metadata: &HashMap<String, String>) -> ClaimFacts {
    let text = |name: &str| metadata.get(name).map(String::as_str).unwrap_or_default();
    let decoded = |name: &str| hex::decode(text(name)).ok().and_then(|name| String::from_utf8(name).ok());
    ClaimFacts {
        runner: decoded("runner").unwrap_or_default(),
        gitlab: decoded("gitlab").unwrap_or_default(),
        at: text("claimed-at").parse().unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

fn listing(keys: &[String]) -> Listing {
    let wish = |key: &String| Some((key.clone(), Wish::from_key(key)?));
    Listing {
        jobs: keys.iter().filter_map(|key| JobKey::from_claim(key)).collect(),
        wishes: keys.iter().filter_map(wish).collect(),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("records and leases are plain data").into()
}
