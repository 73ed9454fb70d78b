//! AWS clients for the stack's endpoint, with the credentials of this process.

use std::env;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

/// The access key of the account's root in local stand-ins for AWS.
const ROOT: &str = "test";

/// Makes clients for one endpoint.
#[derive(Clone, Debug)]
pub struct StackAws {
    config: SdkConfig,
}

/// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
pub fn own_keys() -> (String, String) {
    let key = |name: &str| variable(name).unwrap_or_else(|| ROOT.to_owned());
    (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl StackAws {
    /// For the AWS at `endpoint`.
    pub fn new(endpoint: &str, region: &str) -> StackAws {
        let (access_key, secret_key) = own_keys();
        let token = variable("AWS_SESSION_TOKEN");
        let credentials = Credentials::new(access_key, secret_key, token, None, "environment");
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(20));
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .app_name(AppName::new("mayfly-sandbox").expect("it is made of letters and a dash"))
            .timeout_config(timeouts.build())
            .endpoint_url(endpoint)
            .build();
        StackAws { config }
    }

    pub(super) fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.config)
    }

    pub(super) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    pub(super) fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// Path-style, because a local endpoint has no host names for buckets.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(true);
        aws_sdk_s3::Client::from_conf(config.build())
    }
}
