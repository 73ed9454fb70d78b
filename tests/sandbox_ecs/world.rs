//! Owns one ECS for one test, and the requests that most tests begin with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::{AppName, BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::run_task::RunTaskOutput;
use aws_sdk_ecs::operation::run_task::builders::RunTaskFluentBuilder;
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition, ContainerOverride, KeyValuePair, NetworkConfiguration,
    NetworkMode, TaskOverride,
};
use futures::FutureExt;
use mayfly::sandbox::clock::Clock;
use mayfly::sandbox::ecs::{Ecs, Options, Runtime, TaskView};
use mayfly::sandbox::traffic::Traffic;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long anything in these tests may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub ecs: Ecs,
    pub client: Client,
    pub clock: Clock,
    pub traffic: Traffic,
    pub events: UnboundedReceiver<Value>,
    pub root: TempDir,
}

pub async fn world() -> World {
    world_with(|_| ()).await
}

pub async fn world_with(change: impl FnOnce(&mut Options)) -> World {
    let root = tempfile::tempdir().unwrap();
    let (sender, events) = unbounded_channel();
    let mut options = Options::new(root.path().join("t"), sender);
    let files = HashMap::from([("arn:aws:s3:::services/a.env", "FROM_FILE=1\nBOTH=file\n")]);
    options.fetch_s3 = Arc::new(move |arn| {
        let file = files.get(arn.as_str()).map(|file| file.as_bytes().to_vec());
        async move { file.ok_or_else(|| std::io::Error::other("NoSuchKey")) }.boxed()
    });
    change(&mut options);
    let (clock, traffic) = (options.clock.clone(), options.traffic.clone());
    let ecs = Ecs::start(options).await.unwrap();
    let client = client(ecs.url(), "AKIASANDBOX", "eu-central-1");
    World { ecs, client, clock, traffic, events, root }
}

/// A world whose tasks are played by `runtime`.
pub async fn simulated(runtime: Runtime) -> World {
    world_with(|options| options.runtime = runtime).await
}

pub fn client(url: &str, access_key: &str, region: &'static str) -> Client {
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(url)
        .app_name(AppName::new("mayfly").unwrap())
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(access_key, "secret", None, None, "test"))
        .build();
    Client::from_conf(config)
}

/// A container that runs `script`, with the two volumes of an agent.
pub fn container(name: &str, script: &str) -> ContainerDefinition {
    ContainerDefinition::builder()
        .name(name)
        .image(format!("{name}:1"))
        .set_entry_point(Some(["sh", "-c"].map(str::to_owned).to_vec()))
        .command(script)
        .stop_timeout(2)
        .environment(pair("MAYFLY_BUILDS_DIR", "/builds"))
        .environment(pair("MAYFLY_AGENT_DIR", "/mayfly"))
        .mount_points(mount("builds", "/builds"))
        .mount_points(mount("agent", "/mayfly"))
        .build()
}

pub fn pair(name: &str, value: &str) -> KeyValuePair {
    KeyValuePair::builder().name(name).value(value).build()
}

pub fn environment(container: &str, pairs: &[(&str, &str)]) -> TaskOverride {
    let pairs = pairs.iter().map(|(name, value)| pair(name, value)).collect();
    let container = ContainerOverride::builder().name(container).set_environment(Some(pairs)).build();
    TaskOverride::builder().container_overrides(container).build()
}

pub fn code<T, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, SdkError<E>>) -> String {
    result.err().expect("it is refused").code().unwrap_or_default().to_owned()
}

fn mount(volume: &str, path: &str) -> aws_sdk_ecs::types::MountPoint {
    aws_sdk_ecs::types::MountPoint::builder().source_volume(volume).container_path(path).build()
}

impl World {
    /// Registers a family of these containers.
    pub async fn register(&self, family: &str, containers: Vec<ContainerDefinition>) -> String {
        let volume = |name: &str| aws_sdk_ecs::types::Volume::builder().name(name).build();
        let registered = self
            .client
            .register_task_definition()
            .family(family)
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(Compatibility::Fargate)
            .cpu("1024")
            .memory("2048")
            .execution_role_arn("arn:aws:iam::123456789012:role/execution")
            .volumes(volume("builds"))
            .volumes(volume("agent"))
            .set_container_definitions(Some(containers))
            .send()
            .await;
        registered.unwrap().task_definition.unwrap().task_definition_arn.unwrap()
    }

    /// A RunTask that lacks nothing.
    pub fn run(&self, definition: &str) -> RunTaskFluentBuilder {
        let network = AwsVpcConfiguration::builder().subnets("subnet-1").build().unwrap();
        self.client
            .run_task()
            .cluster("mayfly")
            .task_definition(definition)
            .launch_type(aws_sdk_ecs::types::LaunchType::Fargate)
            .network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build())
    }

    /// Runs one task of these containers.
    pub async fn start(&self, containers: Vec<ContainerDefinition>) -> String {
        let definition = self.register("mayfly-test", containers).await;
        arn(&self.run(&definition).send().await.unwrap())
    }

    pub async fn reached(&self, arn: &str, status: &str) -> TaskView {
        let reached = tokio::time::timeout(PATIENCE, self.ecs.reached(arn, status)).await;
        reached.unwrap_or_else(|_| panic!("not {status} but {:?}", self.ecs.task(arn)))
    }

    pub async fn stopped(&self, arn: &str) -> TaskView {
        self.reached(arn, "STOPPED").await
    }
}

pub fn arn(output: &RunTaskOutput) -> String {
    output.tasks()[0].task_arn().unwrap().to_owned()
}

/// The exit code of a container.
pub fn exit(task: &TaskView, name: &str) -> Option<i64> {
    task.containers.iter().find(|container| container.name == name).unwrap().exit_code
}
