//! Calls ECS, and sorts its answers by what they allow us to do next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_sdk_ecs::operation::run_task::builders::RunTaskFluentBuilder;
use aws_sdk_ecs::types::{
    AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride as SdkOverride,
    EnvironmentFile, EnvironmentFileType, EphemeralStorage, KeyValuePair, NetworkConfiguration, Task, TaskOverride,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use thiserror::Error;

use crate::ledger::{StoppedContainer, StoppedTask};

use super::definition::Definition;
use super::registrations::Registrations;
use super::run_task::{ContainerOverride, RunTask};
use super::sdk_definition::register;

/// What a `RunTask` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launched {
    /// There is a task, of this call or of an earlier one with the same input.
    Started {
        /// Its ARN.
        task: String,
    },
    /// Definitively no task.
    Refused {
        /// ECS' words.
        reason: String,
        /// What helps.
        kind: RefusalKind,
    },
    /// Too many calls: the same call again, later. Nothing was started.
    Throttled,
    /// Nobody knows: only the same call again can tell.
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// Why ECS definitively starts no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Fargate has no capacity now: waiting helps.
    Capacity,
    /// The account's vCPU quota is used up: waiting helps if a task of ours stops.
    VcpuQuota,
    /// Anything else.
    Other,
}

/// What ECS says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Described {
    /// It is on its way or running.
    Live,
    /// It has stopped.
    Stopped(StoppedTask),
    /// ECS does not know it (yet, or any more).
    Missing,
}

/// Why ECS could not be asked.
#[derive(Debug, Error)]
pub enum EcsError {
    /// Too many calls.
    #[error("ECS asks for fewer calls of {0}")]
    Throttled(&'static str),
    /// Anything else.
    #[error("{operation} failed: {reason}")]
    Failed {
        /// The operation.
        operation: &'static str,
        /// ECS' words.
        reason: String,
        /// It will not work the next time either.
        definitive: bool,
    },
}

/// ECS, for one cluster.
#[derive(Clone, Debug)]
pub struct Ecs {
    client: Client,
    cluster: String,
    region: String,
    /// Families that are registered: a warm function asks only once.
    known: Arc<Mutex<HashMap<String, String>>>,
    /// ECS refuses two registrations of one family at one time.
    registrations: Arc<tokio::sync::Mutex<Registrations>>,
}

impl Ecs {
    /// The cluster called `cluster`.
    pub fn new(client: Client, cluster: impl Into<String>, region: impl Into<String>) -> Self {
        Ecs {
            client,
            cluster: cluster.into(),
            region: region.into(),
            known: Arc::default(),
            registrations: Arc::default(),
        }
    }

    /// The ARN of `definition`, registered if it is new.
    ///
    /// New definitions are registered one after the other and within AWS's rate; jobs whose definition exists do not wait
    /// for them. Two functions that race register two equal revisions, or one of them is asked to come again.
    ///
    /// # Errors
    /// See [`EcsError`]; [`EcsError::Throttled`] when this second's registrations are used up.
    pub async fn definition(&self, definition: &Definition, prefix: &str) -> Result<String, EcsError> {
        let family = definition.family(prefix);
        if let Some(arn) = self.known_definition(&family) {
            return Ok(arn);
        }
        let described = match self.client.describe_task_definition().task_definition(&family).send().await {
            Ok(output) => output.task_definition,
            Err(error) if is_client_exception(&error) => None,
            Err(error) => return Err(failed("DescribeTaskDefinition", &error)),
        };
        let definition = match described {
            Some(definition) => definition,
            None => {
                let mut registrations = self.registrations.lock().await;
                if let Some(arn) = self.known_definition(&family) {
                    return Ok(arn);
                }
                if !registrations.take(Instant::now()) {
                    return Err(EcsError::Throttled("RegisterTaskDefinition"));
                }
                let request = register(&self.client, definition, &family, &self.region);
                let output = request.send().await.map_err(|error| failed("RegisterTaskDefinition", &error))?;
                output.task_definition.ok_or_else(|| no_arn(&family))?
            }
        };
        let arn = definition.task_definition_arn.ok_or_else(|| no_arn(&family))?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(family, arn.clone());
        Ok(arn)
    }

    /// Forgets what we know of registered definitions: ECS has refused one of them.
    pub fn forget_definitions(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn known_definition(&self, family: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(family).cloned()
    }

    /// Sends `input` as it stands.
    pub async fn run_task(&self, input: &RunTask) -> Launched {
        match run_task_request(&self.client, input).send().await {
            Ok(output) => match (output.tasks().first().and_then(Task::task_arn), output.failures().first()) {
                (Some(task), _) => Launched::Started { task: task.to_owned() },
                (None, Some(failure)) => {
                    let reason = failure.reason().unwrap_or("no reason given").to_owned();
                    let detail = failure.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
                    Launched::Refused { kind: refusal_kind(&reason), reason: reason + &detail }
                }
                (None, None) => Launched::Unknown { reason: "an answer without tasks and failures".into() },
            },
            Err(error) => launch_error(&error),
        }
    }

    /// Stops `task`; one that is gone is fine.
    ///
    /// # Errors
    /// See [`EcsError`].
    pub async fn stop_task(&self, task: &str, reason: &str) -> Result<(), EcsError> {
        let reason: String = reason.chars().take(255).collect();
        match self.client.stop_task().cluster(&self.cluster).task(task).reason(reason).send().await {
            Ok(_) => Ok(()),
            // A task that ECS has forgotten is an InvalidParameterException.
            Err(error) if error.code() == Some("InvalidParameterException") && !is_throttle(&error) => Ok(()),
            Err(error) => Err(failed("StopTask", &error)),
        }
    }

    /// What ECS says of each of `tasks`, in their order.
    ///
    /// # Errors
    /// See [`EcsError`].
    pub async fn describe(&self, tasks: &[String]) -> Result<Vec<Described>, EcsError> {
        let mut found: HashMap<String, Described> = HashMap::new();
        for batch in tasks.chunks(100) {
            let request = self.client.describe_tasks().cluster(&self.cluster).set_tasks(Some(batch.to_vec()));
            let output = request.send().await.map_err(|error| failed("DescribeTasks", &error))?;
            for task in output.tasks() {
                if let Some(arn) = task.task_arn() {
                    found.insert(arn.to_owned(), described(task));
                }
            }
        }
        Ok(tasks.iter().map(|task| found.remove(task).unwrap_or(Described::Missing)).collect())
    }
}

fn no_arn(family: &str) -> EcsError {
    EcsError::Failed {
        operation: "RegisterTaskDefinition",
        reason: format!("no ARN for `{family}`"),
        definitive: false,
    }
}

fn run_task_request(client: &Client, input: &RunTask) -> RunTaskFluentBuilder {
    let provider = CapacityProviderStrategyItem::builder().capacity_provider(&input.capacity_provider).weight(1);
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(input.subnets.clone()))
        .set_security_groups((!input.security_groups.is_empty()).then(|| input.security_groups.clone()))
        .assign_public_ip(if input.assign_public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled });
    let network =
        NetworkConfiguration::builder().awsvpc_configuration(vpc.build().expect("the subnets are set")).build();
    let disk = input.disk_gib.map(|gib| EphemeralStorage::builder().size_in_gib(gib.cast_signed()).build());
    let overrides = TaskOverride::builder()
        .cpu(input.cpu.to_string())
        .memory(input.memory.to_string())
        .set_ephemeral_storage(disk)
        .set_container_overrides(Some(input.containers.iter().map(sdk_override).collect()));
    client
        .run_task()
        .cluster(&input.cluster)
        .task_definition(&input.task_definition)
        .client_token(&input.client_token)
        .started_by(&input.started_by)
        .count(1)
        .capacity_provider_strategy(provider.build().expect("the provider is set"))
        .network_configuration(network)
        .overrides(overrides.build())
}

fn sdk_override(container: &ContainerOverride) -> SdkOverride {
    let pair = |(name, value): &(String, String)| KeyValuePair::builder().name(name).value(value).build();
    let file = |arn: &String| {
        EnvironmentFile::builder().value(arn).r#type(EnvironmentFileType::S3).build().expect("value and type are set")
    };
    let files = &container.environment_files;
    let environment = &container.environment;
    SdkOverride::builder()
        .name(&container.name)
        .set_environment((!environment.is_empty()).then(|| environment.iter().map(pair).collect()))
        .set_environment_files((!files.is_empty()).then(|| files.iter().map(file).collect()))
        .set_memory(container.memory.map(u32::cast_signed))
        .set_memory_reservation(container.memory_reservation.map(u32::cast_signed))
        .build()
}

fn launch_error(error: &SdkError<RunTaskError, HttpResponse>) -> Launched {
    if let Some(RunTaskError::ConflictException(conflict)) = error.as_service_error()
        && let Some(task) = conflict.resource_ids().first()
    {
        // The token was used with other parameters: that task is ours all the same (aws.md §1.5).
        return Launched::Started { task: task.clone() };
    }
    let reason = words(error);
    if is_throttle(error) {
        return Launched::Throttled;
    }
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(400..=499) => Launched::Refused { kind: refusal_kind(&reason), reason },
        _ => Launched::Unknown { reason },
    }
}

fn described(task: &Task) -> Described {
    if task.last_status() != Some("STOPPED") {
        return Described::Live;
    }
    let containers = task.containers().iter().map(|container| StoppedContainer {
        name: container.name().unwrap_or_default().to_owned(),
        exit_code: container.exit_code(),
        reason: container.reason().map(str::to_owned),
    });
    Described::Stopped(StoppedTask {
        task: task.task_arn().unwrap_or_default().to_owned(),
        started_by: task.started_by().unwrap_or_default().to_owned(),
        stop_code: task.stop_code().map(|code| code.as_str().to_owned()),
        stopped_reason: task.stopped_reason().unwrap_or_default().to_owned(),
        containers: containers.collect(),
    })
}

/// The quota's text has a typographic apostrophe, hence only a part of it (aws.md §1.5).
fn refusal_kind(reason: &str) -> RefusalKind {
    if reason.contains("number of vCPUs") {
        RefusalKind::VcpuQuota
    } else if ["Capacity is unavailable", "RESOURCE:FARGATE"].iter().any(|text| reason.contains(text)) {
        RefusalKind::Capacity
    } else {
        RefusalKind::Other
    }
}

/// Throttling has a code of its own, and at times only a message (aws.md §13).
fn is_throttle<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.code().unwrap_or_default();
    let says = |text: &str| error.message().is_some_and(|message| message.contains(text));
    code.contains("Throttl") || says("Rate exceeded") || says("Too many concurrent attempts")
}

fn is_client_exception<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code() == Some("ClientException") && !is_throttle(error)
}

fn failed<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> EcsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if is_throttle(error) {
        return EcsError::Throttled(operation);
    }
    let status = error.raw_response().map(|response| response.status().as_u16());
    EcsError::Failed { operation, reason: words(error), definitive: matches!(status, Some(400..=499)) }
}

/// ECS' own words where it has some; they may name images and users, never environment.
fn words<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => DisplayErrorContext(error).to_string(),
    }
}
