//! Owns the HTTP client for GitLab and the broker: who we say we are, time limits, trust.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder};
use thiserror::Error;

/// Which part of Mayfly sends a request: it stands in the `User-Agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The dispatcher Lambda.
    Dispatcher,
    /// The helper container of a task.
    Helper,
}

impl Sender {
    /// For example `mayfly/0.1.0 (helper)`.
    pub fn user_agent(self) -> String {
        let part = match self {
            Sender::Dispatcher => "dispatcher",
            Sender::Helper => "helper",
        };
        format!("mayfly/{} ({part})", env!("CARGO_PKG_VERSION"))
    }
}

/// Why no HTTP client could be made.
#[derive(Debug, Error)]
#[error("cannot set up TLS; check the certificates of GitLab: the runner's `tls_ca`, or `CI_SERVER_TLS_CA_FILE`")]
pub struct HttpError(#[source] reqwest::Error);

/// A client with the house's time limits: 10 s to connect, 30 s without a byte.
///
/// # Errors
/// When TLS cannot be set up.
pub fn http_client(sender: Sender) -> Result<Client, HttpError> {
    http_client_with(sender, &[], |builder| builder)
}

/// A client that trusts the PEM certificates `extra_trust` besides the system's, changed by `adjust`.
///
/// # Errors
/// When TLS cannot be set up or `extra_trust` holds no certificate.
pub fn http_client_with(
    sender: Sender,
    extra_trust: &[u8],
    adjust: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Result<Client, HttpError> {
    let certificates = Certificate::from_pem_bundle(extra_trust).map_err(HttpError)?;
    let builder = || {
        let builder = Client::builder()
            .user_agent(sender.user_agent())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none());
        adjust(builder)
    };
    match builder().tls_certs_merge(certificates.clone()).build() {
        Ok(client) => Ok(client),
        // An image without a CA bundle: the platform's verifier cannot even be made, not even for plain HTTP.
        Err(_) => {
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
            let bundled = bundled.filter_map(|der| Certificate::from_der(der).ok());
            builder().tls_certs_only(bundled.chain(certificates)).build().map_err(HttpError)
        }
    }
}

/// Clients by the certificates that they trust besides the system's; clones share them.
#[derive(Clone, Debug)]
pub struct HttpClients {
    sender: Sender,
    by_trust: Arc<Mutex<BTreeMap<String, Client>>>,
}

impl HttpClients {
    /// Clients of `sender`, each made when it is first asked for.
    pub fn new(sender: Sender) -> Self {
        HttpClients { sender, by_trust: Arc::default() }
    }

    /// The client that trusts the PEM certificates `extra_trust`, if there are any.
    ///
    /// # Errors
    /// When TLS cannot be set up or `extra_trust` cannot be read.
    pub fn trusting(&self, extra_trust: Option<&str>) -> Result<Client, HttpError> {
        let trust = extra_trust.unwrap_or_default();
        let mut known = self.by_trust.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(trust) {
            return Ok(client.clone());
        }
        let client = http_client_with(self.sender, trust.as_bytes(), |builder| builder)?;
        known.insert(trust.to_owned(), client.clone());
        Ok(client)
    }
}

/// Whether `pem` is at least one certificate, and each of them can be trusted.
pub fn holds_certificates(pem: &[u8]) -> bool {
    let some = Certificate::from_pem_bundle(pem).is_ok_and(|certificates| !certificates.is_empty());
    some && http_client_with(Sender::Helper, pem, |builder| builder).is_ok()
}
