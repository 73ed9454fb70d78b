//! Points the AWS SDKs at the sandbox's servers.

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::functions::aws_timeouts;

pub(super) const ACCESS_KEY: &str = "AKIASANDBOX";
/// The access key of a role without `s3:ListBucket`.
pub(super) const UNLISTING_KEY: &str = "AKIAUNLISTING";
pub(super) const SECRET_KEY: &str = "sandbox-secret-key";
/// The region whose prices are known.
pub(super) const REGION: &str = "us-east-1";

/// An S3 client of the part called `part`.
pub(super) fn s3(url: &str, part: &'static str) -> aws_sdk_s3::Client {
    s3_as(ACCESS_KEY, url, part)
}

/// An S3 client of a part that signs with `access_key`.
pub(super) fn s3_as(access_key: &str, url: &str, part: &'static str) -> aws_sdk_s3::Client {
    let credentials = SharedCredentialsProvider::new(credentials(access_key));
    let config = aws_sdk_s3::config::Builder::from(&shared(url, part)).force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.credentials_provider(credentials).build())
}

/// An ECS client of the part called `part`.
pub(super) fn ecs(url: &str, part: &'static str) -> aws_sdk_ecs::Client {
    aws_sdk_ecs::Client::new(&shared(url, part))
}

/// A CloudWatch Logs client of the part called `part`; the stand-in for ECS answers it.
pub(super) fn logs(url: &str, part: &'static str) -> aws_sdk_cloudwatchlogs::Client {
    aws_sdk_cloudwatchlogs::Client::new(&shared(url, part))
}

fn shared(url: &str, part: &'static str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials(ACCESS_KEY)))
        .app_name(app_name(part))
        .timeout_config(aws_timeouts())
        .endpoint_url(url)
        .build()
}

fn credentials(access_key: &str) -> Credentials {
    Credentials::new(access_key, SECRET_KEY, None, None, "sandbox")
}

fn app_name(part: &'static str) -> AppName {
    AppName::new(format!("mayfly-{part}")).expect("our names are made of letters and dashes")
}
