//! Owns one task: its states, and how DescribeTasks and EventBridge write it (aws.md §2.7 and §3).

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::container_rules::is_essential;
use super::json::{list, number, text};
use super::override_rules;
use super::size::Size;

/// How long a stopped task can be described (aws.md §1.4).
const STOPPED_VISIBLE: SignedDuration = SignedDuration::from_hours(1);

/// The states of a task, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Provisioning,
    Pending,
    Activating,
    Running,
    Deactivating,
    Stopping,
    Deprovisioning,
    Stopped,
}

impl Status {
    pub(super) const ALL: [Status; 8] = [
        Status::Provisioning,
        Status::Pending,
        Status::Activating,
        Status::Running,
        Status::Deactivating,
        Status::Stopping,
        Status::Deprovisioning,
        Status::Stopped,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Provisioning => "PROVISIONING",
            Status::Pending => "PENDING",
            Status::Activating => "ACTIVATING",
            Status::Running => "RUNNING",
            Status::Deactivating => "DEACTIVATING",
            Status::Stopping => "STOPPING",
            Status::Deprovisioning => "DEPROVISIONING",
            Status::Stopped => "STOPPED",
        }
    }
}

/// What whoever drives a task has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    /// Stop in order: dependents first.
    Stop,
    /// A Spot interruption: everybody at once.
    Interrupt,
}

/// Returns once the task has to stop.
pub(super) async fn told_to_stop(wish: &mut watch::Receiver<Wish>) {
    if wish.wait_for(|wish| *wish != Wish::Run).await.is_err() {
        // The task is gone, and nobody will say any more.
        std::future::pending::<()>().await;
    }
}

/// Why a task stopped.
#[derive(Clone, Debug)]
pub(super) struct StopCause {
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// One container of a task.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) essential: bool,
    pub(super) arn: String,
    pub(super) runtime_id: String,
    /// The last part of its metadata URI, which nobody else has.
    pub(super) metadata_id: String,
    pub(super) last_status: &'static str,
    pub(super) exit_code: Option<i64>,
    pub(super) reason: Option<String>,
    pub(super) cpu: i64,
    pub(super) memory: Option<i64>,
    /// CloudWatch Logs does not take what it writes.
    pub(super) loses_log: bool,
    pub(super) created_at: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

/// The moments of a task's life.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    pub(super) pull_started: Option<Timestamp>,
    pub(super) pull_stopped: Option<Timestamp>,
    pub(super) connected: Option<Timestamp>,
    pub(super) started: Option<Timestamp>,
    pub(super) stopping: Option<Timestamp>,
    pub(super) execution_stopped: Option<Timestamp>,
    pub(super) stopped: Option<Timestamp>,
}

/// Everything that `RunTask` decides about a task.
pub(super) struct Launch<'a> {
    pub(super) definition: Arc<Value>,
    pub(super) definition_tags: &'a Value,
    pub(super) request: &'a Value,
    pub(super) size: Size,
    pub(super) provider: Option<String>,
    pub(super) cluster_arn: String,
    pub(super) now: Timestamp,
}

/// One task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) cluster_arn: String,
    pub(super) definition: Arc<Value>,
    pub(super) overrides: Arc<Value>,
    pub(super) size: Size,
    pub(super) provider: Option<String>,
    pub(super) group: String,
    pub(super) started_by: Option<String>,
    pub(super) tags: Value,
    subnet: String,
    pub(super) last_status: Status,
    pub(super) version: u64,
    pub(super) stop: Option<StopCause>,
    pub(super) containers: Vec<Container>,
    pub(super) created: Timestamp,
    pub(super) times: Times,
    pub(super) wish: watch::Sender<Wish>,
}

/// How times are written: awsJson1.1 has seconds, EventBridge RFC 3339.
#[derive(Clone, Copy)]
pub(super) enum Stamps {
    Seconds,
    Text,
}

impl Task {
    pub(super) fn new(launch: Launch<'_>) -> Task {
        let Launch { definition, definition_tags, request, size, provider, cluster_arn, now } = launch;
        let id = Uuid::new_v4().simple().to_string();
        let arn = format!("{}/{id}", cluster_arn.replacen(":cluster/", ":task/", 1));
        let overrides = request.get("overrides").cloned().unwrap_or_else(|| json!({}));
        let containers = list(&definition, "containerDefinitions")
            .iter()
            .map(|container| new_container(container, &overrides, &arn, &id))
            .collect();
        let family = text(&definition, "family").unwrap_or_default();
        let subnets = &request["networkConfiguration"]["awsvpcConfiguration"];
        Task {
            arn,
            cluster_arn,
            overrides: Arc::new(whole_overrides(&overrides, &definition)),
            size,
            provider,
            group: text(request, "group").map_or_else(|| format!("family:{family}"), str::to_owned),
            started_by: text(request, "startedBy").map(str::to_owned),
            tags: tags(request, definition_tags),
            subnet: list(subnets, "subnets").first().and_then(Value::as_str).unwrap_or_default().to_owned(),
            last_status: Status::Provisioning,
            version: 1,
            stop: None,
            containers,
            created: now,
            times: Times::default(),
            wish: watch::Sender::new(Wish::Run),
            definition,
            id,
        }
    }

    pub(super) fn is_spot(&self) -> bool {
        self.provider.as_deref() == Some("FARGATE_SPOT")
    }

    /// Whether the API still shows it.
    pub(super) fn is_visible(&self, now: Timestamp) -> bool {
        self.times.stopped.is_none_or(|at| now.duration_since(at) < STOPPED_VISIBLE)
    }

    pub(super) fn desired_status(&self) -> &'static str {
        if self.stop.is_some() { "STOPPED" } else { "RUNNING" }
    }

    pub(super) fn container(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.name == name)
    }

    /// The definition of the container `name`, and its override.
    pub(super) fn container_definition(&self, name: &str) -> (&Value, &Value) {
        let mut all = list(&self.definition, "containerDefinitions").iter();
        let definition = all.find(|c| text(c, "name") == Some(name)).unwrap_or(&Value::Null);
        (definition, override_rules::of_container(&self.overrides, name).unwrap_or(&Value::Null))
    }

    /// The task as a `Task` of the API, without tags.
    pub(super) fn to_json(&self, stamps: Stamps) -> Value {
        let architecture = text(&self.definition["runtimePlatform"], "cpuArchitecture").unwrap_or("X86_64");
        let mut task = json!({
            "attachments": [self.attachment()],
            "attributes": [{"name": "ecs.cpu-architecture", "value": architecture.to_ascii_lowercase()}],
            "availabilityZone": "sandbox-1a",
            "clusterArn": self.cluster_arn,
            "containers": self.containers.iter().map(|c| self.container_json(c)).collect::<Vec<_>>(),
            "cpu": self.size.cpu.to_string(),
            "createdAt": stamp(self.created, stamps),
            "desiredStatus": self.desired_status(),
            "enableExecuteCommand": false,
            "ephemeralStorage": {"sizeInGiB": self.storage()},
            "group": self.group,
            "healthStatus": "UNKNOWN",
            "lastStatus": self.last_status.name(),
            "launchType": "FARGATE",
            "memory": self.size.memory.to_string(),
            "overrides": *self.overrides,
            "platformFamily": "Linux",
            "platformVersion": "1.4.0",
            "taskArn": self.arn,
            "taskDefinitionArn": self.definition["taskDefinitionArn"],
            "version": self.version,
        });
        let Some(members) = task.as_object_mut() else { return task };
        let mut set = |name: &str, value: Option<Value>| {
            value.map(|value| members.insert(name.to_owned(), value));
        };
        let times = &self.times;
        let all = [
            ("connectivityAt", times.connected),
            ("pullStartedAt", times.pull_started),
            ("pullStoppedAt", times.pull_stopped),
            ("startedAt", times.started),
            ("stoppingAt", times.stopping),
            ("executionStoppedAt", times.execution_stopped),
            ("stoppedAt", times.stopped),
        ];
        all.into_iter().for_each(|(name, time)| set(name, time.map(|time| stamp(time, stamps))));
        set("connectivity", times.connected.map(|_| json!("CONNECTED")));
        set("capacityProviderName", self.provider.as_ref().map(|name| json!(name)));
        set("startedBy", self.started_by.as_ref().map(|by| json!(by)));
        set("stopCode", self.stop.as_ref().map(|stop| json!(stop.code)));
        set("stoppedReason", self.stop.as_ref().map(|stop| json!(stop.reason)));
        task
    }

    pub(super) fn storage(&self) -> i64 {
        let size = |owner: &Value| number(&owner["ephemeralStorage"], "sizeInGiB");
        size(&self.overrides).or(size(&self.definition)).unwrap_or(20)
    }

    /// The task's address in its subnet, which nobody can reach.
    pub(super) fn private_ip(&self) -> String {
        let byte = |at: usize| u8::from_str_radix(&self.id[at..at + 2], 16).unwrap_or(1);
        format!("10.{}.{}.{}", byte(0), byte(2), byte(4))
    }

    fn attachment(&self) -> Value {
        let attached = match self.last_status {
            Status::Provisioning => "PRECREATED",
            Status::Stopped => "DELETED",
            _ => "ATTACHED",
        };
        json!({
            "id": self.attachment_id(), "type": "ElasticNetworkInterface", "status": attached,
            "details": [
                {"name": "subnetId", "value": self.subnet},
                {"name": "networkInterfaceId", "value": format!("eni-{}", &self.id[..17])},
                {"name": "privateIPv4Address", "value": self.private_ip()},
            ],
        })
    }

    fn attachment_id(&self) -> String {
        let id = &self.id;
        format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
    }

    fn container_json(&self, container: &Container) -> Value {
        let interface = json!({"attachmentId": self.attachment_id(), "privateIpv4Address": self.private_ip()});
        let mut json = json!({
            "containerArn": container.arn, "taskArn": self.arn, "name": container.name, "image": container.image,
            "lastStatus": container.last_status, "networkBindings": [], "networkInterfaces": [interface],
            "healthStatus": "UNKNOWN", "cpu": container.cpu.to_string(),
        });
        if let Some(memory) = container.memory {
            json["memory"] = json!(memory.to_string());
        }
        if container.created_at.is_some() {
            json["runtimeId"] = json!(container.runtime_id);
        }
        if let Some(code) = container.exit_code {
            json["exitCode"] = json!(code);
        }
        if let Some(reason) = &container.reason {
            json["reason"] = json!(reason.chars().take(1024).collect::<String>());
        }
        json
    }
}

fn new_container(definition: &Value, overrides: &Value, task_arn: &str, task_id: &str) -> Container {
    let name = text(definition, "name").unwrap_or_default();
    let over = override_rules::of_container(overrides, name).unwrap_or(&Value::Null);
    let amount = |member: &str| number(over, member).or(number(definition, member));
    let serial = Uuid::new_v4().as_u128() % 10_000_000_000;
    Container {
        name: name.to_owned(),
        image: text(definition, "image").unwrap_or_default().to_owned(),
        essential: is_essential(definition),
        arn: format!("{}/{}", task_arn.replacen(":task/", ":container/", 1), Uuid::new_v4()),
        runtime_id: format!("{task_id}-{serial:010}"),
        metadata_id: format!("{task_id}-{serial:010}"),
        last_status: "PENDING",
        exit_code: None,
        reason: None,
        cpu: amount("cpu").unwrap_or(0),
        memory: amount("memory"),
        loses_log: false,
        created_at: None,
        started_at: None,
        finished_at: None,
    }
}

/// ECS names every container in `overrides`, also those that have none.
fn whole_overrides(overrides: &Value, definition: &Value) -> Value {
    let mut whole = overrides.as_object().cloned().unwrap_or_else(Map::new);
    let all = list(definition, "containerDefinitions").iter().map(|container| {
        let name = text(container, "name").unwrap_or_default();
        override_rules::of_container(overrides, name).cloned().unwrap_or_else(|| json!({"name": name}))
    });
    whole.insert("containerOverrides".to_owned(), all.collect());
    whole.entry("inferenceAcceleratorOverrides").or_insert_with(|| json!([]));
    Value::Object(whole)
}

fn tags(request: &Value, of_definition: &Value) -> Value {
    let mut tags = list(request, "tags").to_vec();
    if text(request, "propagateTags") == Some("TASK_DEFINITION") {
        let new = |tag: &&Value| !tags.iter().any(|other| text(other, "key") == text(tag, "key"));
        let more: Vec<_> = of_definition.as_array().into_iter().flatten().filter(new).cloned().collect();
        tags.extend(more);
    }
    Value::Array(tags)
}

/// One point in time, as this kind of document writes it.
pub(super) fn stamp(time: Timestamp, stamps: Stamps) -> Value {
    match stamps {
        Stamps::Seconds => json!(time.as_millisecond() as f64 / 1000.0),
        Stamps::Text => json!(format!("{time:.3}")),
    }
}
