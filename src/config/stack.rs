//! What a deployed stack tells its functions about itself, so that `fleet.toml` does not have to repeat it.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;

use super::fleet::{Broker, Bucket, Tasks};

/// The environment variable of the functions that holds a [`Stack`] as JSON.
pub const STACK_VARIABLE: &str = "MAYFLY_STACK";

/// Names and addresses of one stack. Nothing here is secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stack {
    /// CloudFormation's id of the stack, which the system id is derived from.
    pub stack_id: Option<String>,
    /// The AWS region.
    pub region: Option<String>,
    /// See [`Fleet::prefix`](super::Fleet::prefix).
    pub prefix: Option<String>,
    /// Where tasks run.
    pub tasks: Option<Tasks>,
    /// The broker, and where agents lie.
    pub broker: Option<Broker>,
    /// The ledger's bucket.
    pub ledger: Option<Bucket>,
    /// The cache's bucket.
    pub cache: Option<Bucket>,
}

/// The stack's own description is not what a function expects.
#[derive(Debug, Error)]
#[error("`MAYFLY_STACK` cannot be read: the template and the function's package are of different versions")]
pub struct StackError(#[from] serde_json::Error);

impl Stack {
    /// Reads the JSON of [`STACK_VARIABLE`].
    ///
    /// # Errors
    /// When it is not such a description.
    pub fn read(json: &str) -> Result<Stack, StackError> {
        Ok(serde_json::from_str(json)?)
    }

    /// Adds what stands in other places: the broker's URL, and the SHA-256 of the packed agents by architecture.
    #[must_use]
    pub fn with_broker(mut self, url: Option<Url>, agents: &BTreeMap<String, String>) -> Stack {
        if let Some(broker) = &mut self.broker {
            broker.url = url;
            broker.agents = agents.clone();
        }
        self
    }

    /// `r_` and 12 hex digits: one id per stack, the same for every function and every start (gitlab-protocol.md §2.4).
    pub fn system_id(&self) -> Option<String> {
        let id = self.stack_id.as_ref()?;
        Some(format!("r_{}", &hex::encode(Sha256::digest(id))[..12]))
    }
}
