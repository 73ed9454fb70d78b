//! Owns the secrets of the functions: who has which, and how they are replaced while a function is warm.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;

/// A value that can be replaced under its readers.
#[derive(Debug, Default)]
pub struct Refreshable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Refreshable<T> {
    fn clone(&self) -> Self {
        Refreshable(Arc::clone(&self.0))
    }
}

impl<T> Refreshable<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Refreshable(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The value now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value for all who share it.
    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// What the dispatcher knows.
#[derive(Clone, Debug)]
pub struct DispatcherSecrets {
    /// Runner tokens by the runner's name in the fleet.
    pub runner_tokens: BTreeMap<String, SecretString>,
    /// Signs tickets.
    pub ticket_key: SecretString,
}

/// What the broker knows.
#[derive(Clone, Debug)]
pub struct BrokerKeys {
    /// Signs tickets.
    pub ticket_key: SecretString,
    /// Signs grants.
    pub grant_key: SecretString,
    /// What a helper must prove to hold.
    pub launch_key: SecretString,
}
