//! Reads and swaps objects of one S3 bucket.

use std::collections::HashMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use thiserror::Error;

/// A state of an object, as compare-and-swap knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// Why the store did not do it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The object is not (or no longer) in the expected state: read it again.
    #[error("`{0}` was changed by another")]
    Lost(String),
    /// S3 did not do it; it may have, for a write.
    #[error("S3 failed at `{key}`: {reason}")]
    Failed {
        /// The object.
        key: String,
        /// S3's words.
        reason: String,
    },
}

/// One bucket.
#[derive(Clone, Debug)]
pub struct Store {
    s3: Client,
    bucket: String,
}

/// An object as it was read.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its content.
    pub body: Bytes,
    /// Its state.
    pub version: Version,
    /// What was written with it.
    pub metadata: HashMap<String, String>,
}

impl Store {
    /// The bucket called `bucket`.
    pub fn new(s3: Client, bucket: impl Into<String>) -> Self {
        Store { s3, bucket: bucket.into() }
    }

    /// The object at `key`, if there is one.
    ///
    /// # Errors
    /// When S3 fails.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let output = match self.s3.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(output) => output,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed(key, &error)),
        };
        let version = Version(output.e_tag().unwrap_or_default().to_owned());
        let metadata = output.metadata().cloned().unwrap_or_default();
        let body = output.body.collect().await.map_err(|error| failed(key, &error))?.into_bytes();
        Ok(Some(Object { body, version, metadata }))
    }

    /// What was written with the object at `key`, without its content.
    ///
    /// # Errors
    /// When S3 fails.
    pub async fn metadata(&self, key: &str) -> Result<Option<HashMap<String, String>>, StoreError> {
        match self.s3.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(output) => Ok(Some(output.metadata().cloned().unwrap_or_default())),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    /// Writes `body` at `key` if there is nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if there is something else.
    pub async fn create(&self, key: &str, body: Bytes, metadata: &[(&str, String)]) -> Result<Version, StoreError> {
        let mut put = self.s3.put_object().bucket(&self.bucket).key(key).if_none_match("*");
        for (name, value) in metadata {
            put = put.metadata(*name, value);
        }
        let result = put.body(ByteStream::from(body.clone())).send().await;
        self.swapped(
            key,
            &body,
            result.map(|output| output.e_tag).map_err(|error| (status(&error), failed(key, &error))),
        )
        .await
    }

    /// Replaces the state `version` of `key` by `body`.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it is in another state.
    pub async fn swap(&self, key: &str, version: &Version, body: Bytes) -> Result<Version, StoreError> {
        let put = self.s3.put_object().bucket(&self.bucket).key(key).if_match(&version.0);
        let result = put.body(ByteStream::from(body.clone())).send().await;
        self.swapped(
            key,
            &body,
            result.map(|output| output.e_tag).map_err(|error| (status(&error), failed(key, &error))),
        )
        .await
    }

    /// Writes `body` at `key`, whatever is there.
    ///
    /// # Errors
    /// When S3 fails.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let put = self.s3.put_object().bucket(&self.bucket).key(key);
        put.body(ByteStream::from(body)).send().await.map(drop).map_err(|error| failed(key, &error))
    }

    /// Deletes `key`; nothing there is fine.
    ///
    /// # Errors
    /// When S3 fails.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.s3.delete_object().bucket(&self.bucket).key(key).send().await {
            Err(error) if status(&error) != Some(404) => Err(failed(key, &error)),
            _ => Ok(()),
        }
    }

    /// All keys that begin with `prefix`.
    ///
    /// # Errors
    /// When S3 fails.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut pages = self.s3.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(prefix, &error))?;
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        Ok(keys)
    }

    /// A write that lost may be our own, repeated after its first answer got lost: then what is there is what we wrote.
    async fn swapped(
        &self,
        key: &str,
        body: &Bytes,
        result: Result<Option<String>, (Option<u16>, StoreError)>,
    ) -> Result<Version, StoreError> {
        match result {
            Ok(etag) => Ok(Version(etag.unwrap_or_default())),
            // 412: another state; 409: another write at this moment; 404: If-Match without an object.
            Err((Some(404 | 409 | 412), _)) => match self.get(key).await? {
                Some(object) if object.body == *body => Ok(object.version),
                Some(_) => Err(StoreError::Lost(key.to_owned())),
                // Another write of ours may still be on its way, and may still fail.
                None => Err(StoreError::Failed { key: key.to_owned(), reason: "a write met another".to_owned() }),
            },
            Err((_, error)) => Err(error),
        }
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn failed(key: &str, error: &impl std::error::Error) -> StoreError {
    StoreError::Failed { key: key.to_owned(), reason: DisplayErrorContext(error).to_string() }
}
