//! Names a container of a task for the job's author: what it is for, its image, and where both are set.

use crate::plan::{Arch, Plan, ServicePlan, nearest_label};
use crate::plan::{BUILD, HELPER, service_name};

/// A container of a stopped task, or the task as a whole where ECS does not name one.
#[derive(Clone, Copy)]
pub(super) struct FailedContainer<'a> {
    /// Its name; `None` where ECS does not name one.
    pub(super) name: Option<&'a str>,
    /// The task's plan.
    pub(super) plan: Option<&'a Plan>,
}

impl<'a> FailedContainer<'a> {
    pub(super) fn is_build(&self) -> bool {
        self.name == Some(BUILD)
    }

    pub(super) fn is_helper(&self) -> bool {
        self.name == Some(HELPER)
    }

    fn service(&self) -> Option<&'a ServicePlan> {
        let mut services = self.plan?.services.iter().enumerate();
        services.find(|(index, _)| self.name == Some(service_name(*index).as_str())).map(|(_, service)| service)
    }

    /// The image that the job names for it.
    pub(super) fn job_image(&self) -> Option<&'a str> {
        if self.is_build() { Some(&self.plan?.build.image) } else { Some(&self.service()?.image) }
    }

    /// `the image … of the … container`.
    pub(super) fn image(&self) -> String {
        match (self.name, self.job_image()) {
            (Some(name), Some(image)) => format!("the image `{image}` of the `{name}` container"),
            (Some(name), None) => format!("the image of the `{name}` container"),
            (None, _) => "an image of the task".into(),
        }
    }

    /// `the … container (image …)`.
    pub(super) fn title(&self) -> String {
        match (self.name, self.job_image()) {
            (Some(name), Some(image)) => format!("the `{name}` container (image `{image}`)"),
            (Some(name), None) => format!("the `{name}` container"),
            (None, _) => "a container of the task".into(),
        }
    }

    /// Where its image is set, and who can change it.
    pub(super) fn image_setting(&self) -> &'static str {
        match () {
            () if self.is_build() => "`image:` in .gitlab-ci.yml",
            () if self.is_helper() => "`images.helper` in fleet.toml, which the owner of this runner can change",
            () if self.service().is_some() => "`services:` in .gitlab-ci.yml",
            () => "`image:` and `services:` in .gitlab-ci.yml",
        }
    }

    /// Whether the image is pulled with a secret of the fleet; `None` where that is not known.
    pub(super) fn has_credentials(&self) -> Option<bool> {
        if self.is_build() {
            return Some(self.plan?.build.credentials.is_some());
        }
        Some(self.service()?.credentials.is_some())
    }

    /// Whether it is the job's container, and its image's entry point is kept.
    pub(super) fn has_entrypoint(&self) -> bool {
        self.is_build() && self.plan.is_some_and(|plan| plan.build.entrypoint.is_some())
    }

    /// Whether the image lies in a private registry of ECR.
    pub(super) fn is_in_ecr(&self) -> bool {
        self.job_image().is_some_and(|image| image.contains(".dkr.ecr."))
    }

    /// How much memory the container had, and how to give it more.
    pub(super) fn memory(&self) -> (String, String) {
        let Some(plan) = self.plan else { return ("its memory".into(), more_memory(None)) };
        let limit = |mib: u32| format!("its limit of {mib} MiB");
        if self.is_build() {
            return (limit(plan.memory.build_mib), more_memory(Some(plan)));
        }
        if self.is_helper() {
            let twice = plan.memory.helper_mib.saturating_mul(2);
            let more = format!(
                "it fetches sources and packs cache and artifacts; raise the limit with the variable \
                 `KUBERNETES_HELPER_MEMORY_LIMIT`, for example to `{twice}Mi`"
            );
            return (limit(plan.memory.helper_mib), more);
        }
        if self.service().is_some() && plan.memory.service_is_limit {
            let more = "raise it with the variable `KUBERNETES_SERVICE_MEMORY_LIMIT`";
            return (limit(plan.memory.service_mib), more.into());
        }
        (format!("the task's {} MiB", plan.size.memory_mib), more_memory(Some(plan)))
    }

    /// The task's processor, and the other one.
    pub(super) fn processors(&self) -> (Arch, Arch) {
        match self.plan.map(|plan| plan.arch).unwrap_or_default() {
            Arch::Amd64 => (Arch::Amd64, Arch::Arm64),
            Arch::Arm64 => (Arch::Arm64, Arch::Amd64),
        }
    }

    /// The task's disk in GB, and the tag for a larger one.
    pub(super) fn disk(&self) -> (u32, &'static str) {
        let gib = self.plan.and_then(|plan| plan.disk_gib).unwrap_or(20);
        (gib, nearest_label(&format!("disk-{}g", gib + 1)).unwrap_or("disk-200g"))
    }
}

fn more_memory(plan: Option<&Plan>) -> String {
    let larger = plan.and_then(|plan| nearest_label(&format!("mem-{}m", plan.size.memory_mib + 1)));
    let example = larger.map(|tag| format!(", for example `{tag}`,")).unwrap_or_default();
    format!("ask for more with a `mem-` tag{example} or `MAYFLY_MEMORY`")
}
