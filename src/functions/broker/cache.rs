//! `POST /cache`: mints access to the objects that a grant names, while its job runs.

use std::time::Duration;

use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use http::StatusCode;

use crate::ledger::wire::{CacheAccess, CacheAnswer, CacheRequest};
use crate::ledger::{CacheGrant, Grant, Phase};

use super::{Broker, BrokerAnswer, URL_SECONDS, answer, refuse, unavailable};

/// S3's limits (aws.md §5).
const MOST_PARTS: u32 = 10_000;
const LARGEST_PART: u64 = 5 << 30;

impl Broker {
    pub(super) async fn cache(&self, body: &[u8]) -> BrokerAnswer {
        let Ok(request) = serde_json::from_slice::<CacheRequest>(body) else {
            return refuse(StatusCode::BAD_REQUEST, "not a request for a cache");
        };
        let Some(grant) = self.with_keys(|keys| Grant::read(&keys.grant_key, &request.grant)).await else {
            return refuse(StatusCode::FORBIDDEN, "this is no grant of ours");
        };
        match self.ledger.record(&grant.job).await {
            Ok(Some(stored)) if stored.value.phase == Phase::Opened && stored.value.decision.is_none() => {}
            Ok(_) => return refuse(StatusCode::FORBIDDEN, "the job has ended, and its grant with it"),
            Err(error) => return unavailable(&error),
        }
        let Some(entry) = grant.caches.get(request.entry) else {
            return refuse(StatusCode::FORBIDDEN, "the job has no such cache");
        };
        match self.access(entry, request.access).await {
            Ok(value) => answer(&value),
            Err(refusal) => *refusal,
        }
    }

    async fn access(&self, entry: &CacheGrant, access: CacheAccess) -> Result<CacheAnswer, Box<BrokerAnswer>> {
        let bucket = &self.fleet.cache.bucket;
        let forbidden = || Box::new(refuse(StatusCode::FORBIDDEN, "the job's policy does not allow that"));
        if let CacheAccess::Restore { key } = access {
            let object = entry.restore.get(key).ok_or_else(forbidden)?;
            return url(self.s3.get_object().bucket(bucket).key(object).presigned(lifetime()).await);
        }
        let object = entry.save.as_ref().ok_or_else(forbidden)?;
        match access {
            CacheAccess::Restore { .. } => Err(forbidden()),
            CacheAccess::Save { size } if size <= LARGEST_PART => {
                let length = i64::try_from(size).unwrap_or(i64::MAX);
                let put = self.s3.put_object().bucket(bucket).key(object).content_length(length);
                url(put.presigned(lifetime()).await)
            }
            CacheAccess::Part { upload, number, size }
                if (1..=MOST_PARTS).contains(&number) && size <= LARGEST_PART =>
            {
                let part = self.s3.upload_part().bucket(bucket).key(object).upload_id(upload);
                let length = i64::try_from(size).unwrap_or(i64::MAX);
                url(part.part_number(number.cast_signed()).content_length(length).presigned(lifetime()).await)
            }
            CacheAccess::Save { .. } | CacheAccess::Part { .. } => {
                Err(Box::new(refuse(StatusCode::BAD_REQUEST, "S3 takes 10,000 parts of at most 5 GiB")))
            }
            CacheAccess::Begin => {
                let begun = self.s3.create_multipart_upload().bucket(bucket).key(object).send().await;
                let upload = begun.map_err(|error| failed(&error))?.upload_id.unwrap_or_default();
                Ok(CacheAnswer::Begun { upload })
            }
            CacheAccess::Complete { upload, etags } => {
                let part =
                    |(number, etag): (i32, String)| CompletedPart::builder().part_number(number).e_tag(etag).build();
                let parts = (1..).zip(etags).map(part).collect();
                let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
                let complete = self.s3.complete_multipart_upload().bucket(bucket).key(object).upload_id(upload);
                complete.multipart_upload(parts).send().await.map_err(|error| failed(&error))?;
                Ok(CacheAnswer::Done)
            }
            CacheAccess::Abort { upload } => {
                let abort = self.s3.abort_multipart_upload().bucket(bucket).key(object).upload_id(upload);
                abort.send().await.map_err(|error| failed(&error))?;
                Ok(CacheAnswer::Done)
            }
        }
    }
}

fn lifetime() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(URL_SECONDS)).expect("15 minutes are allowed")
}

fn url<E: std::error::Error>(presigned: Result<PresignedRequest, E>) -> Result<CacheAnswer, Box<BrokerAnswer>> {
    let request = presigned.map_err(|error| Box::new(unavailable(&error)))?;
    let signed = request.headers().filter(|(name, _)| *name != "host");
    let headers = signed.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(CacheAnswer::Url { url: request.uri().to_owned(), headers })
}

fn failed(error: &impl std::error::Error) -> Box<BrokerAnswer> {
    tracing::error!(error = %DisplayErrorContext(error), "S3 refused a cache upload");
    Box::new(refuse(StatusCode::BAD_GATEWAY, "S3 does not take the cache now"))
}
