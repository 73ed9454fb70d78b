//! Turns our [`Definition`] into the SDK's `RegisterTaskDefinition` input.

use aws_sdk_ecs::client::Client;
use aws_sdk_ecs::operation::register_task_definition::builders::RegisterTaskDefinitionFluentBuilder;
use aws_sdk_ecs::types::{
    Compatibility, ContainerDefinition as SdkContainer, CpuArchitecture, KernelCapabilities, KeyValuePair,
    LinuxParameters, LogConfiguration, LogDriver, MountPoint, NetworkMode, OsFamily, RepositoryCredentials,
    RuntimePlatform, Secret, Volume,
};

use crate::plan::Arch;

use super::definition::{ContainerDefinition, Definition};

/// Volumes of every task.
const VOLUMES: [&str; 2] = ["builds", "agent"];

/// The request that registers `definition` as `family`.
///
/// Fargate wants a size in the definition; the smallest legal one stands there, and every `RunTask` overrides it.
pub(super) fn register(
    ecs: &Client,
    definition: &Definition,
    family: &str,
    region: &str,
) -> RegisterTaskDefinitionFluentBuilder {
    let architecture = match definition.arch {
        Arch::Amd64 => CpuArchitecture::X8664,
        Arch::Arm64 => CpuArchitecture::Arm64,
    };
    let platform =
        RuntimePlatform::builder().cpu_architecture(architecture).operating_system_family(OsFamily::Linux).build();
    let containers = definition.containers.iter().map(|container| sdk_container(container, region)).collect();
    let volumes = VOLUMES.iter().map(|name| Volume::builder().name(*name).build()).collect();
    ecs.register_task_definition()
        .family(family)
        .network_mode(NetworkMode::Awsvpc)
        .requires_compatibilities(Compatibility::Fargate)
        .cpu("256")
        .memory("512")
        .runtime_platform(platform)
        .execution_role_arn(&definition.execution_role)
        .set_container_definitions(Some(containers))
        .set_volumes(Some(volumes))
}

fn sdk_container(container: &ContainerDefinition, region: &str) -> SdkContainer {
    let pair = |(name, value): &(&str, String)| KeyValuePair::builder().name(*name).value(value).build();
    let mount = |(volume, path, read_only): &(&str, &str, bool)| {
        MountPoint::builder().source_volume(*volume).container_path(*path).read_only(*read_only).build()
    };
    let secret = |(name, from): &(&str, String)| {
        Secret::builder().name(*name).value_from(from).build().expect("name and source are set")
    };
    let credentials = container
        .credentials
        .as_ref()
        .map(|arn| RepositoryCredentials::builder().credentials_parameter(arn).build().expect("the parameter is set"));
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let capabilities = KernelCapabilities::builder().drop("NET_RAW").build();
    SdkContainer::builder()
        .name(&container.name)
        .image(&container.image)
        .set_user(container.user.clone())
        .set_repository_credentials(credentials)
        .essential(container.essential)
        .set_entry_point(some(&container.entrypoint))
        .set_command(some(&container.command))
        .set_environment(Some(container.environment.iter().map(pair).collect()))
        .set_secrets(Some(container.secrets.iter().map(secret).collect()))
        .set_mount_points(Some(container.mounts.iter().map(mount).collect()))
        .stop_timeout(container.stop_timeout)
        .linux_parameters(LinuxParameters::builder().capabilities(capabilities).build())
        .set_log_configuration(container.log_group.as_ref().map(|(group, stream)| logs(group, stream, region)))
        .build()
}

fn logs(group: &str, stream: &str, region: &str) -> LogConfiguration {
    LogConfiguration::builder()
        .log_driver(LogDriver::Awslogs)
        .options("awslogs-group", group)
        .options("awslogs-region", region)
        .options("awslogs-stream-prefix", stream)
        .build()
        .expect("the driver is set")
}
