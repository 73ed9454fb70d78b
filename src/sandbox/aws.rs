//! Points the AWS SDKs at the sandbox's servers.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_credential_types::Credentials;

pub(super) const ACCESS_KEY: &str = "AKIASANDBOX";
pub(super) const SECRET_KEY: &str = "sandbox-secret-key";
/// The region whose prices are known.
pub(super) const REGION: &str = "us-east-1";

/// An S3 client of the part called `part`.
pub(super) fn s3(url: &str, part: &'static str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(credentials())
        .app_name(app_name(part))
        .timeout_config(timeouts())
        .endpoint_url(url)
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// An ECS client of the part called `part`.
pub(super) fn ecs(url: &str, part: &'static str) -> aws_sdk_ecs::Client {
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(credentials())
        .app_name(app_name(part))
        .timeout_config(timeouts())
        .endpoint_url(url);
    aws_sdk_ecs::Client::from_conf(config.build())
}

/// A CloudWatch Logs client of the part called `part`; the stand-in for ECS answers it.
pub(super) fn logs(url: &str, part: &'static str) -> aws_sdk_cloudwatchlogs::Client {
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(credentials())
        .app_name(app_name(part))
        .timeout_config(timeouts())
        .endpoint_url(url);
    aws_sdk_cloudwatchlogs::Client::from_conf(config.build())
}

fn credentials() -> Credentials {
    Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "sandbox")
}

fn app_name(part: &'static str) -> AppName {
    AppName::new(format!("mayfly-{part}")).expect("our names are made of letters and dashes")
}

fn timeouts() -> TimeoutConfig {
    let attempt = Duration::from_secs(20);
    TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).operation_attempt_timeout(attempt).build()
}
