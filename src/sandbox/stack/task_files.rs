//! Reads what ECS reads for a task before it starts: secrets and environment files.

use std::io;
use std::sync::Arc;

use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use futures::FutureExt;

use crate::sandbox::ecs::{FetchS3, FetchSecret};

use super::clients::StackAws;

/// Reads secrets from Secrets Manager.
pub fn secrets(aws: &StackAws) -> FetchSecret {
    let client = aws.secrets_manager();
    Arc::new(move |arn: String| {
        let client = client.clone();
        async move {
            match client.get_secret_value().secret_id(&arn).send().await {
                Ok(secret) => Ok(secret.secret_string),
                Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
                Err(error) => Err(io::Error::other(DisplayErrorContext(error).to_string())),
            }
        }
        .boxed()
    })
}

/// Reads environment files from S3.
pub fn environment_files(s3: aws_sdk_s3::Client) -> FetchS3 {
    Arc::new(move |arn: String| {
        let s3 = s3.clone();
        async move {
            let wrong = || io::Error::other(format!("`{arn}` is no object"));
            let (bucket, key) = arn.split(":::").nth(1).and_then(|path| path.split_once('/')).ok_or_else(wrong)?;
            let object = s3.get_object().bucket(bucket).key(key).send().await;
            let object = object.map_err(|error| io::Error::other(DisplayErrorContext(error).to_string()))?;
            Ok(object.body.collect().await.map_err(io::Error::other)?.to_vec())
        }
        .boxed()
    })
}
