//! Talks to the broker: opens the ticket, asks for access to cache objects.

use std::time::Duration;

use reqwest::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use url::Url;

use crate::gitlab::{Backoff, is_transient};
use crate::ledger::wire::{
    CacheAccess, CacheAnswer, CacheRequest, OpenAnswer, OpenRequest, Refusal, ServiceLogsAnswer, ServiceLogsRequest,
};

/// Why the broker did not do it.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// It understood, and will not.
    #[error("the broker refuses: {0}")]
    Refused(String),
    /// It did not answer, however often it was asked.
    #[error("the broker does not answer")]
    Unreachable(#[source] reqwest::Error),
}

/// The broker, for one ticket.
#[derive(Clone, Debug)]
pub struct BrokerClient {
    http: Client,
    base: Url,
    grant: String,
}

impl BrokerClient {
    /// The broker at `base`.
    pub fn new(http: Client, base: Url) -> Self {
        BrokerClient { http, base, grant: String::new() }
    }

    /// The same, holding the grant that an [`OpenAnswer`] brought.
    #[must_use]
    pub fn with_grant(self, grant: String) -> Self {
        BrokerClient { grant, ..self }
    }

    /// The broker's host.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Opens the ticket. Asked again with the same request it answers the same.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn open(&self, request: &OpenRequest) -> Result<OpenAnswer, BrokerError> {
        self.post("open", request).await
    }

    /// Asks for access to the objects of the job's cache number `entry`.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn cache(&self, entry: usize, access: CacheAccess) -> Result<CacheAnswer, BrokerError> {
        self.post("cache", &CacheRequest { grant: self.grant.clone(), entry, access }).await
    }

    /// Asks for what the job's service number `service` has written since the answer with the mark `after`.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn service_logs(&self, service: usize, after: Option<String>) -> Result<ServiceLogsAnswer, BrokerError> {
        self.post("service-logs", &ServiceLogsRequest { grant: self.grant.clone(), service, after }).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, BrokerError> {
        let url = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        let mut backoff = Backoff::new(8, Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let error = match self.http.post(&url).json(body).send().await {
                Ok(response) if response.status().is_success() => match response.json().await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                Ok(response) if is_transient(response.status()) => match response.error_for_status() {
                    Err(error) => error,
                    Ok(_) => unreachable!("a transient status is an error status"),
                },
                Ok(response) => {
                    let status = response.status();
                    let refusal = response.json::<Refusal>().await;
                    return Err(BrokerError::Refused(refusal.map_or_else(|_| status.to_string(), |r| r.message)));
                }
                Err(error) => error,
            };
            match backoff.pause(None) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(BrokerError::Unreachable(error)),
            }
        }
    }
}
