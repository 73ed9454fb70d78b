//! Keeps claims, records and the lease in one bucket of their own.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::store::{Store, StoreError, Version};
use super::{JobKey, Lease, Record};

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
    /// The lease as this function left it.
    remembered: Arc<Mutex<Option<Stored<Lease>>>>,
}

const LEASE: &str = "lease";
/// How often a lost swap is tried again before we give up for now.
const SWAPS: u32 = 50;

impl Ledger {
    /// The ledger in `store`.
    pub fn new(store: Store) -> Self {
        Ledger { store, remembered: Arc::default() }
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
        let text = |name: &str| object.metadata.get(name).map(String::as_str).unwrap_or_default();
        let decoded = |name: &str| hex::decode(text(name)).ok().and_then(|name| String::from_utf8(name).ok());
        let facts = ClaimFacts {
            runner: decoded("runner").unwrap_or_default(),
            gitlab: decoded("gitlab").unwrap_or_default(),
            at: text("claimed-at").parse().unwrap_or(Timestamp::UNIX_EPOCH),
        };
        Ok(Some(Claim { body: object.body, facts }))
    }

    /// All live jobs: whose claim is still there.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn live_jobs(&self) -> Result<Vec<JobKey>, LedgerError> {
        Ok(self.store.list("claims/").await?.iter().filter_map(|key| JobKey::from_claim(key)).collect())
    }

    /// Deletes what only a live job needs: its services' environment, then its claim.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn forget(&self, job: &JobKey) -> Result<(), LedgerError> {
        for key in self.store.list(&job.services()).await? {
            self.store.delete(&key).await?;
        }
        Ok(self.store.delete(&job.claim()).await?)
    }

    /// Writes the environment file of service number `service`; returns its key.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn store_service(&self, job: &JobKey, service: usize, env: String) -> Result<String, LedgerError> {
        let key = format!("{}{service}.env", job.services());
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

    /// Changes the lease by `change`, on its newest state.
    ///
    /// # Errors
    /// See [`LedgerError`].
    ///
    /// Who changes it often finds it as he left it, so the first try spares the reading. What changes nothing is only
    /// believed of a lease that was read.
    pub async fn change_lease<T>(&self, change: impl Fn(&mut Lease) -> T) -> Result<T, LedgerError> {
        if let Some(stored) = self.take_remembered() {
            let mut lease = stored.value.clone();
            let result = change(&mut lease);
            if lease != stored.value && self.swap_lease(&stored.version, lease).await? {
                return Ok(result);
            }
        }
        for _ in 0..SWAPS {
            let stored: Option<Stored<Lease>> = self.read(LEASE).await?;
            let mut lease = stored.as_ref().map(|stored| stored.value.clone()).unwrap_or_default();
            let result = change(&mut lease);
            let swapped = match &stored {
                Some(stored) if stored.value == lease => return Ok(result),
                Some(stored) => self.swap_lease(&stored.version, lease).await?,
                None => match self.store.create(LEASE, json(&lease), &[]).await {
                    Ok(_) => true,
                    Err(StoreError::Lost(_)) => false,
                    Err(error) => return Err(error.into()),
                },
            };
            if swapped {
                return Ok(result);
            }
        }
        Err(LedgerError::Contended(LEASE.into()))
    }

    /// The lease as it stands, to look at.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn lease(&self) -> Result<Lease, LedgerError> {
        Ok(self.read(LEASE).await?.map(|stored: Stored<Lease>| stored.value).unwrap_or_default())
    }

    /// The lease as this function left it, without asking.
    pub fn last_lease(&self) -> Option<Lease> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.as_ref().map(|stored| stored.value.clone())
    }

    async fn swap_lease(&self, version: &Version, mut lease: Lease) -> Result<bool, LedgerError> {
        lease.sign(uuid::Uuid::new_v4().simple().to_string());
        match self.store.swap(LEASE, version, json(&lease)).await {
            Ok(version) => {
                let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                *remembered = Some(Stored { value: lease, version });
                Ok(true)
            }
            Err(StoreError::Lost(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_remembered(&self) -> Option<Stored<Lease>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Stored<T>>, LedgerError> {
        let Some(object) = self.store.get(key).await? else { return Ok(None) };
        match serde_json::from_slice(&object.body) {
            Ok(value) => Ok(Some(Stored { value, version: object.version })),
            Err(source) => Err(LedgerError::Unreadable { key: key.to_owned(), source }),
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("records and leases are plain data").into()
}
