//! What a stack gives its functions: their environment, their package, and a `fleet.toml`.

use serde_json::json;

use crate::support::Story;

/// What the template gives dispatcher and broker, for a sandbox's S3 and ECS.
pub struct Stack {
    description: String,
    package: tempfile::TempDir,
    /// Where tasks ask for their jobs.
    pub broker: String,
    s3: String,
    ecs: String,
}

impl Stack {
    /// The stack around a sandbox, whose functions have one agent in their package.
    pub fn of(story: &Story, sha256: &str, agent: &[u8]) -> Stack {
        let fleet = &story.sandbox.fleet;
        let description = json!({
            "stack_id": "arn:aws:cloudformation:us-east-1:123456789012:stack/ci/2f", "region": fleet.region,
            "prefix": "mayfly", "tasks": fleet.tasks, "broker": {"agents_bucket": fleet.broker.agents_bucket},
            "ledger": fleet.ledger, "cache": {"bucket": fleet.cache.bucket},
        });
        let package = tempfile::tempdir().expect("a directory");
        let agents = package.path().join("agents");
        std::fs::create_dir(&agents).expect("a directory");
        std::fs::write(agents.join(sha256), agent).expect("a file");
        let list = json!({"amd64": sha256}).to_string();
        std::fs::write(package.path().join("agents.json"), list).expect("a file");
        let (s3, ecs) = (story.sandbox.s3.url().to_owned(), story.sandbox.ecs.url().to_owned());
        let broker = "https://broker.test".to_owned();
        Stack { description: description.to_string(), package, broker, s3, ecs }
    }

    /// The environment of dispatcher and broker.
    pub fn variables(&self) -> Vec<(&str, &str)> {
        vec![
            ("MAYFLY_STACK", &self.description),
            ("MAYFLY_FLEET", "s3://agents/fleet.toml"),
            ("MAYFLY_BROKER_URL", &self.broker),
            ("MAYFLY_RUNNER_TOKENS", "tokens"),
            ("MAYFLY_TICKET_KEY", "ticket"),
            ("MAYFLY_GRANT_KEY", "grant"),
            ("MAYFLY_LAUNCH_KEY", "launch"),
            ("LAMBDA_TASK_ROOT", self.package.path().to_str().expect("a plain path")),
            ("AWS_ENDPOINT_URL_S3", &self.s3),
            ("AWS_ENDPOINT_URL_ECS", &self.ecs),
        ]
    }

    /// Puts a `fleet.toml` with one runner into the bucket.
    pub async fn put_fleet(&self, story: &Story, runner: &str) {
        let runner = format!("[[runners]]\nname = \"{runner}\"\nurl = \"{}\"\n", story.sandbox.gitlab.url());
        let text = format!("[images]\ndefault = \"busybox\"\n{runner}");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .endpoint_url(&self.s3)
            .force_path_style(true)
            .credentials_provider(aws_credential_types::Credentials::new(
                "AKIASANDBOX",
                "sandbox-secret-key",
                None,
                None,
                "test",
            ))
            .build();
        let put = aws_sdk_s3::Client::from_conf(config).put_object().bucket("agents").key("fleet.toml");
        put.body(text.into_bytes().into()).send().await.expect("it is put");
    }
}
