//! `GET /agent/<sha256>`: sends the helper to where its agent lies. A redirect, for a function cannot answer 6 MB.

use std::sync::PoisonError;
use std::time::Duration;

use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tracing::info;

use crate::functions::is_sha256;

use super::{Broker, BrokerAnswer, URL_SECONDS, refuse, unavailable};

impl Broker {
    /// Agents are public, so the caller needs no proof. Those of earlier versions stay: a task asks for the one that it was
    /// launched with.
    pub(super) async fn agent(&self, sha256: &str) -> BrokerAnswer {
        if !is_sha256(sha256) {
            return refuse(StatusCode::NOT_FOUND, "an agent is named by its SHA-256");
        }
        let key = format!("agents/{sha256}");
        if let Err(refusal) = self.upload(sha256, &key).await {
            return *refusal;
        }
        let lifetime = PresigningConfig::expires_in(Duration::from_secs(URL_SECONDS)).expect("15 minutes are allowed");
        let request = self.s3.get_object().bucket(&self.fleet.broker.agents_bucket).key(key);
        let url = match request.presigned(lifetime).await {
            Ok(url) => url,
            Err(error) => return unavailable(&error),
        };
        let Ok(location) = HeaderValue::from_str(url.uri()) else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the agent's URL is not a header");
        };
        let headers = HeaderMap::from_iter([(http::header::LOCATION, location)]);
        BrokerAnswer { status: StatusCode::FOUND, headers, body: Bytes::new() }
    }

    /// Makes sure that the agent lies in the bucket: looked for once, and put there from the package if it is missing.
    async fn upload(&self, sha256: &str, key: &str) -> Result<(), Box<BrokerAnswer>> {
        if self.uploaded.lock().unwrap_or_else(PoisonError::into_inner).contains(sha256) {
            return Ok(());
        }
        let bucket = &self.fleet.broker.agents_bucket;
        match self.s3.head_object().bucket(bucket).key(key).send().await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => {
                let Some(path) = self.packed.path(sha256) else {
                    return Err(Box::new(refuse(StatusCode::NOT_FOUND, "there is no such agent")));
                };
                let agent = tokio::fs::read(&path).await.map_err(|error| Box::new(unavailable(&error)))?;
                let put = self.s3.put_object().bucket(bucket).key(key).body(agent.into()).send().await;
                put.map_err(|error| failed(&error))?;
                info!(agent = sha256, "put the agent {sha256} into the bucket");
            }
            Err(error) => return Err(failed(&error)),
        }
        self.uploaded.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256.to_owned());
        Ok(())
    }
}

/// A caller that may not list the bucket is told 403 for a missing object.
fn is_missing(error: &SdkError<HeadObjectError>) -> bool {
    error.raw_response().is_some_and(|response| matches!(response.status().as_u16(), 403 | 404))
}

fn failed(error: &impl std::error::Error) -> Box<BrokerAnswer> {
    tracing::error!(error = %DisplayErrorContext(error), "the agents' bucket does not answer");
    Box::new(refuse(StatusCode::SERVICE_UNAVAILABLE, "the broker cannot answer now"))
}
