//! `GET /agent/<sha256>`: sends the helper to where its agent lies. A redirect, for a function cannot answer 6 MB.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Broker, BrokerAnswer, URL_SECONDS, refuse, unavailable};

impl Broker {
    /// Only agents that the fleet names are handed out; they are public, so nobody is asked who he is.
    pub(super) async fn agent(&self, sha256: &str) -> BrokerAnswer {
        if !self.fleet.broker.agents.values().any(|known| known == sha256) {
            return refuse(StatusCode::NOT_FOUND, "the fleet has no such agent");
        }
        let lifetime = PresigningConfig::expires_in(Duration::from_secs(URL_SECONDS)).expect("15 minutes are allowed");
        let key = format!("agents/{sha256}");
        let request = self.s3.get_object().bucket(&self.fleet.broker.agents_bucket).key(key);
        let url = match request.presigned(lifetime).await {
            Ok(url) => url,
            Err(error) => return unavailable(&error),
        };
        let Ok(location) = HeaderValue::from_str(url.uri()) else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the agent's URL is no header");
        };
        let headers = HeaderMap::from_iter([(http::header::LOCATION, location)]);
        BrokerAnswer { status: StatusCode::FOUND, headers, body: Bytes::new() }
    }
}
