//! Reads the fleet configuration from where `MAYFLY_FLEET` points.

use anyhow::Context;
use aws_config::SdkConfig;
use mayfly::config::{FLEET_VARIABLE, Fleet};

/// Reads the document at a path or an `s3://bucket/key` URL.
pub async fn fleet(aws: &SdkConfig) -> anyhow::Result<Fleet> {
    let place = super::variable(FLEET_VARIABLE)?;
    let text = match place.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) {
        Some((bucket, key)) => {
            let object = aws_sdk_s3::Client::new(aws).get_object().bucket(bucket).key(key).send().await;
            let object = object.with_context(|| format!("reading `{place}`"))?;
            String::from_utf8(object.body.collect().await?.to_vec())?
        }
        None => tokio::fs::read_to_string(&place).await.with_context(|| format!("reading `{place}`"))?,
    };
    Fleet::read(&text).with_context(|| format!("in `{place}`"))
}
