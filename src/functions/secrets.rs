//! Which secrets each function holds, and how they are replaced while it is warm.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use secrecy::SecretString;

use crate::ledger::keys::SigningKey;

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

/// The dispatcher's secrets.
#[derive(Clone, Debug)]
pub struct DispatcherSecrets {
    /// Runner tokens by the runner's name in the fleet.
    pub runner_tokens: BTreeMap<String, SecretString>,
    /// Signs tickets.
    pub ticket_key: SecretString,
}

/// The broker's keys.
#[derive(Clone, Debug)]
pub struct BrokerKeys {
    /// Tickets are signed with it.
    pub ticket_key: SigningKey,
    /// Grants are signed with it.
    pub grant_key: SigningKey,
    /// A helper must prove that it holds it.
    pub launch_key: SigningKey,
}

/// Reads the keys again, because something was signed with none of those at hand; replaces them where they are held.
pub type RereadKeys = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;
