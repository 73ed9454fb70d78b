//! Owns what a job asks for: labels, then variables, which win; nothing asked means the fleet's default.

use thiserror::Error;

use crate::config::{JobSettings, SizeLimits};
use crate::gitlab::{Service, Variables};

use super::labels::{LabelError, Labels};
use super::memory::{HelperMemory, size_with_helper};
use super::pod::{Figure, pod};
use super::quantity::{Mib, Millicpu, QuantityError};
use super::{Arch, TaskSize, smallest_size};

/// A size that a job gets, and the words that explain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Legal, and at least what was asked.
    pub size: TaskSize,
    /// GiB of disk above the 20 that every task has; `None` for these.
    pub disk_gib: Option<u32>,
    /// The processor.
    pub arch: Arch,
    /// Spot capacity in the first attempt.
    pub spot: bool,
    /// Memory that each service was given by Kubernetes variables.
    pub service_memory: Option<Mib>,
    /// Memory that the helper was given.
    pub helper_memory: Option<HelperMemory>,
    /// Where the figures come from, for example `tags cpu-4`.
    pub why: String,
    /// Lines for the log: which of the runner's settings the job's variables replaced.
    pub words: Vec<String>,
}

/// Why a job's size is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// Two tags.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A variable that is no quantity.
    #[error("variable `{variable}`: {source}")]
    Quantity {
        /// Its name.
        variable: String,
        /// What is wrong.
        source: QuantityError,
    },
    /// Bytes where mebibytes are meant.
    #[error(
        "{given_by} gives the helper less than 16 MB, and no program runs in that: write it with its unit, for example \
         `512Mi`; without one it counts bytes"
    )]
    HelperMemory {
        /// The variable or setting.
        given_by: String,
    },
    /// A variable with another word than it may have.
    #[error("variable `{variable}` must be {allowed}")]
    Word {
        /// Its name.
        variable: String,
        /// The words.
        allowed: &'static str,
    },
    /// More than this runner gives.
    #[error(
        "the job asks for {asked}, and this runner gives at most {most}: ask for less, or raise `{setting}` in the fleet configuration"
    )]
    OverCeiling {
        /// What was asked.
        asked: String,
        /// The ceiling.
        most: String,
        /// Where the ceiling stands.
        setting: &'static str,
    },
    /// More than this runner lets a variable say, in GitLab Runner's words.
    #[error("the resource {resource:?} requested {asked:?} is higher than limit allowed {most:?}")]
    TooHigh {
        /// `CPURequest` and the like.
        resource: String,
        /// What was asked.
        asked: String,
        /// The setting `…_overwrite_max_allowed`.
        most: String,
    },
    /// More than Fargate has.
    #[error("no Fargate task has {asked}: the largest is 32 vCPU with 244 GB, and 200 GB of disk")]
    TooLarge {
        /// What was asked.
        asked: String,
    },
    /// The fleet configuration itself.
    #[error("the fleet configuration says `{setting}`: {source}")]
    Fleet {
        /// The setting.
        setting: String,
        /// What is wrong.
        source: QuantityError,
    },
}

/// What a job without a size gets.
const DEFAULT_CPU: Millicpu = Millicpu(1000);
const DEFAULT_MEMORY: Mib = Mib(2048);

/// Decides a job's size from its labels and variables, within `limits`; `settings` count where the job says nothing.
///
/// # Errors
/// See [`AskError`]: each is a sentence for the job's log.
pub fn ask(
    labels: &Labels,
    variables: &Variables,
    services: &[Service],
    limits: &SizeLimits,
    settings: &JobSettings,
) -> Result<Ask, AskError> {
    let pod = pod(variables, services, settings)?;
    let cpu = first([
        variable(variables, "MAYFLY_CPU", Millicpu::read)?,
        by_job(pod.cpu.as_ref()),
        labels.cpu.map(|cpu| (format!("tag cpu-{}", cpu.0 as f64 / 1000.0), cpu)),
        by_settings(pod.cpu.as_ref()),
    ]);
    let memory = first([
        variable(variables, "MAYFLY_MEMORY", Mib::read)?,
        by_job(pod.memory.as_ref()),
        labels.memory.map(|memory| (tag("mem", memory), memory)),
        by_settings(pod.memory.as_ref()),
    ]);
    let disk = first([
        variable(variables, "MAYFLY_DISK", Mib::read)?,
        by_job(pod.storage.as_ref()),
        labels.disk.map(|disk| (tag("disk", disk), disk)),
        by_settings(pod.storage.as_ref()),
        setting("size.disk", limits.disk.as_deref(), Mib::read)?.map(|disk| ("default disk".to_owned(), disk)),
    ]);

    let is_sum =
        memory.as_ref().is_some_and(|(source, _)| pod.memory.as_ref().is_some_and(|sum| sum.source == *source));
    let nothing_asked = cpu.is_none() && memory.is_none();
    let why = explain(cpu.as_ref().map(|c| c.0.as_str()), memory.as_ref().map(|m| m.0.as_str()));
    let (mut cpu, mut memory) = (cpu.map(|c| c.1), memory.map(|m| m.1));
    if nothing_asked {
        cpu = Some(setting("size.cpu", limits.cpu.as_deref(), Millicpu::read)?.unwrap_or(DEFAULT_CPU));
        memory = Some(setting("size.memory", limits.memory.as_deref(), Mib::read)?.unwrap_or(DEFAULT_MEMORY));
    }

    // A sum of the pod's containers has the helper in it, a figure for the whole task does not.
    let for_helper = pod.helper_memory.as_ref().filter(|_| !is_sum);
    let wanted = || asked(cpu, memory, for_helper);
    let size = size_with_helper(cpu, memory, for_helper).ok_or_else(|| AskError::TooLarge { asked: wanted() })?;
    check_ceilings(size, &wanted(), limits)?;
    let why = match (smallest_size(cpu, memory).filter(|without| *without != size), for_helper) {
        (Some(without), Some(helper)) => format!("{why}; {without} without {}", helper.given_by),
        _ => why,
    };
    Ok(Ask {
        size,
        disk_gib: disk_gib(disk.map(|d| d.1), limits)?,
        arch: arch(labels, variables, limits)?,
        spot: spot(labels, variables, limits)?,
        service_memory: pod.service_memory,
        helper_memory: pod.helper_memory,
        why,
        words: pod.words,
    })
}

fn check_ceilings(size: TaskSize, asked: &str, limits: &SizeLimits) -> Result<(), AskError> {
    if let Some(most) = setting("size.max_cpu", limits.max_cpu.as_deref(), Millicpu::read)?
        && u64::from(size.cpu_units) > most.cpu_units()
    {
        let asked = format!("{size} (the smallest that has {asked})");
        return Err(AskError::OverCeiling { asked, most: most.to_string(), setting: "size.max_cpu" });
    }
    if let Some(most) = setting("size.max_memory", limits.max_memory.as_deref(), Mib::read)?
        && u64::from(size.memory_mib) > most.0
    {
        let asked = format!("{size} (the smallest that has {asked})");
        return Err(AskError::OverCeiling { asked, most: most.to_string(), setting: "size.max_memory" });
    }
    Ok(())
}

/// Every task has 20 GiB; only 21 to 200 can be asked for (aws.md §1.2).
fn disk_gib(disk: Option<Mib>, limits: &SizeLimits) -> Result<Option<u32>, AskError> {
    let Some(disk) = disk else { return Ok(None) };
    if let Some(most) = setting("size.max_disk", limits.max_disk.as_deref(), Mib::read)?
        && disk > most
    {
        let (asked, most) = (format!("{disk} of disk"), most.to_string());
        return Err(AskError::OverCeiling { asked, most, setting: "size.max_disk" });
    }
    match disk.0.div_ceil(1024) {
        0..=20 => Ok(None),
        gib @ 21..=200 => Ok(u32::try_from(gib).ok()),
        _ => Err(AskError::TooLarge { asked: format!("{disk} of disk") }),
    }
}

fn arch(labels: &Labels, variables: &Variables, limits: &SizeLimits) -> Result<Arch, AskError> {
    if let Some(word) = variables.get("MAYFLY_ARCH") {
        let wrong = || AskError::Word { variable: "MAYFLY_ARCH".into(), allowed: "`amd64` or `arm64`" };
        return Arch::read(word).ok_or_else(wrong);
    }
    if let Some(arch) = node_selector(variables)? {
        return Ok(arch);
    }
    Ok(labels.arch.or_else(|| limits.arch.as_deref().and_then(Arch::read)).unwrap_or_default())
}

/// `KUBERNETES_NODE_SELECTOR_…: kubernetes.io/arch=arm64`; other labels of nodes mean nothing here.
fn node_selector(variables: &Variables) -> Result<Option<Arch>, AskError> {
    let selectors = variables.iter().filter(|variable| variable.key.starts_with("KUBERNETES_NODE_SELECTOR_"));
    for variable in selectors {
        if let Some(word) = variable.value.strip_prefix("kubernetes.io/arch=") {
            let allowed = "`kubernetes.io/arch=amd64` or `kubernetes.io/arch=arm64`";
            let wrong = || AskError::Word { variable: variable.key.clone(), allowed };
            return Arch::read(word).map(Some).ok_or_else(wrong);
        }
    }
    Ok(None)
}

fn spot(labels: &Labels, variables: &Variables, limits: &SizeLimits) -> Result<bool, AskError> {
    match variables.get("MAYFLY_SPOT") {
        Some("true" | "1" | "yes") => Ok(true),
        Some("false" | "0" | "no") => Ok(false),
        Some(_) => Err(AskError::Word { variable: "MAYFLY_SPOT".into(), allowed: "`true` or `false`" }),
        None => Ok(labels.spot.or(limits.spot).unwrap_or(false)),
    }
}

fn by_job<T: Copy>(figure: Option<&Figure<T>>) -> Option<(String, T)> {
    figure.filter(|figure| figure.by_job).map(|figure| (figure.source.clone(), figure.amount))
}

fn by_settings<T: Copy>(figure: Option<&Figure<T>>) -> Option<(String, T)> {
    figure.filter(|figure| !figure.by_job).map(|figure| (figure.source.clone(), figure.amount))
}

fn variable<T>(
    variables: &Variables,
    name: &str,
    read: impl Fn(&str) -> Result<T, QuantityError>,
) -> Result<Option<(String, T)>, AskError> {
    let Some(text) = variables.get(name).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    match read(text) {
        Ok(value) => Ok(Some((format!("variable {name}"), value))),
        Err(source) => Err(AskError::Quantity { variable: name.to_owned(), source }),
    }
}

fn setting<T>(
    name: &'static str,
    text: Option<&str>,
    read: impl Fn(&str) -> Result<T, QuantityError>,
) -> Result<Option<T>, AskError> {
    text.map(read).transpose().map_err(|source| AskError::Fleet { setting: name.into(), source })
}

fn first<T, const N: usize>(sources: [Option<(String, T)>; N]) -> Option<(String, T)> {
    sources.into_iter().flatten().next()
}

fn tag(kind: &str, Mib(mib): Mib) -> String {
    if mib.is_multiple_of(1024) { format!("tag {kind}-{}g", mib / 1024) } else { format!("tag {kind}-{mib}m") }
}

fn asked(cpu: Option<Millicpu>, memory: Option<Mib>, helper: Option<&HelperMemory>) -> String {
    let task = match (cpu, memory) {
        (Some(cpu), Some(memory)) => format!("{cpu} and {memory}"),
        (Some(cpu), None) => cpu.to_string(),
        (None, Some(memory)) => memory.to_string(),
        (None, None) => "nothing".into(),
    };
    match helper {
        Some(helper) => format!("{task}, with {} for the helper by {}", helper.figure, helper.given_by),
        None => task,
    }
}

fn explain(cpu: Option<&str>, memory: Option<&str>) -> String {
    match (cpu, memory) {
        (None, None) => "the default: no `cpu-` or `mem-` tag".into(),
        (Some(cpu), None) => format!("{cpu}, and the least memory that goes with it"),
        (None, Some(memory)) => format!("{memory}, and the least CPU that goes with it"),
        (Some(cpu), Some(memory)) if cpu == memory => cpu.into(),
        (Some(cpu), Some(memory)) => format!("{cpu}, {memory}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let variable = |(key, value): &(&str, &str)| Variable { raw: false, ..Variable::public(key, *value) };
        pairs.iter().map(variable).collect::<Variables>().expanded()
    }

    fn limits() -> SizeLimits {
        SizeLimits { max_cpu: Some("8".into()), max_memory: Some("32g".into()), ..SizeLimits::default() }
    }

    #[test]
    fn variables_win_over_labels_and_labels_over_the_default() {
        for (tags, pairs, expected) in [
            (&[][..], &[][..], (1024, 2048)),
            (&["cpu-4"], &[], (4096, 8192)),
            (&["mem-8g"], &[], (1024, 8192)),
            (&["cpu-4", "mem-8g"], &[("MAYFLY_CPU", "2")], (2048, 8192)),
            (&["cpu-4"], &[("MAYFLY_MEMORY", "9g")], (4096, 9216)),
            (&[], &[("MAYFLY_CPU", "3"), ("MAYFLY_MEMORY", "5g")], (4096, 8192)),
            (&[], &[("KUBERNETES_CPU_REQUEST", "500m"), ("KUBERNETES_CPU_LIMIT", "2")], (2048, 4096)),
            (&["cpu-1"], &[("KUBERNETES_CPU_REQUEST", "1500m"), ("KUBERNETES_HELPER_CPU_LIMIT", "500m")], (2048, 4096)),
            (&[], &[("KUBERNETES_MEMORY_REQUEST", "3Gi"), ("KUBERNETES_HELPER_MEMORY_LIMIT", "256Mi")], (512, 4096)),
            (&["cpu-4"], &[("KUBERNETES_HELPER_CPU_LIMIT", "500m")], (4096, 8192)),
            (&[], &[("SIZE", "4g"), ("MAYFLY_MEMORY", "$SIZE")], (512, 4096)),
        ] {
            let labels = Labels::read(tags.iter().copied()).unwrap();
            let size = ask(&labels, &variables(pairs), &[], &limits(), &JobSettings::default()).unwrap().size;
            assert_eq!((size.cpu_units, size.memory_mib), expected, "{tags:?} {pairs:?}");
        }
    }

    #[test]
    fn a_task_grows_by_what_the_helper_gets_more() {
        const LIMIT: &str = "KUBERNETES_HELPER_MEMORY_LIMIT";
        const REQUEST: &str = "KUBERNETES_HELPER_MEMORY_REQUEST";
        let default = "the default: no `cpu-` or `mem-` tag";
        for (tags, pairs, expected, why) in [
            (
                &[][..],
                &[(LIMIT, "1Gi")][..],
                (1024, 3072),
                "; 1 vCPU, 2 GB without variable KUBERNETES_HELPER_MEMORY_LIMIT",
            ),
            (&[], &[(LIMIT, "256Mi")], (1024, 2048), default),
            (&[], &[(LIMIT, "100Mi")], (1024, 2048), default),
            (&[], &[(REQUEST, "256Mi")], (1024, 2048), default),
            (&[], &[(REQUEST, "512Mi")], (1024, 3072), "without variable KUBERNETES_HELPER_MEMORY_REQUEST"),
            (
                &["mem-8g"],
                &[(LIMIT, "2Gi")],
                (2048, 10240),
                "tag mem-8g, and the least CPU that goes with it; 1 vCPU, 8 GB",
            ),
            (&["cpu-0.25", "mem-512m"], &[(LIMIT, "512Mi")], (256, 1024), "; 0.25 vCPU, 0.5 GB without"),
            (&["cpu-4"], &[(LIMIT, "1Gi")], (4096, 9216), "; 4 vCPU, 8 GB without"),
            (&["mem-4g"], &[("MAYFLY_MEMORY", "3g"), (LIMIT, "1Gi")], (512, 4096), "variable MAYFLY_MEMORY"),
            (
                &["mem-8g"],
                &[("KUBERNETES_MEMORY_LIMIT", "3Gi"), (LIMIT, "1Gi")],
                (512, 4096),
                "variable KUBERNETES_MEMORY",
            ),
            (&[], &[("KUBERNETES_POD_MEMORY_LIMIT", "4Gi"), (LIMIT, "1Gi")], (512, 4096), "variable KUBERNETES_POD"),
        ] {
            let labels = Labels::read(tags.iter().copied()).unwrap();
            let ask = ask(&labels, &variables(pairs), &[], &limits(), &JobSettings::default()).unwrap();
            assert_eq!((ask.size.cpu_units, ask.size.memory_mib), expected, "{tags:?} {pairs:?}");
            assert!(ask.why.contains(why), "{tags:?} {pairs:?}: {}", ask.why);
        }
    }

    #[test]
    fn each_service_adds_its_own_figure_or_the_common_one() {
        let own = vec![Variable::public("KUBERNETES_SERVICE_MEMORY_LIMIT", "2Gi")];
        let services = [Service { variables: own, ..Service::default() }, Service::default()];
        let pairs = [("KUBERNETES_MEMORY_LIMIT", "1Gi"), ("KUBERNETES_SERVICE_MEMORY_LIMIT", "1Gi")];
        let size =
            ask(&Labels::default(), &variables(&pairs), &services, &limits(), &JobSettings::default()).unwrap().size;
        assert_eq!(size.memory_mib, 4096);
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_a_sentence() {
        for (pairs, said) in [
            (&[("MAYFLY_CPU", "many")][..], "variable `MAYFLY_CPU`: `many` is no quantity of vCPUs"),
            (&[("MAYFLY_CPU", "16")], "this runner gives at most 8 vCPU"),
            (&[("MAYFLY_MEMORY", "40g")], "size.max_"),
            (&[("MAYFLY_MEMORY", "300g")], "no Fargate task has 300 GB"),
            (&[("MAYFLY_DISK", "201g")], "no Fargate task has 201 GB of disk"),
            (&[("MAYFLY_ARCH", "mips")], "must be `amd64` or `arm64`"),
            (&[("MAYFLY_SPOT", "maybe")], "must be `true` or `false`"),
            (&[("KUBERNETES_MEMORY_LIMIT", "lots")], "variable `KUBERNETES_MEMORY_LIMIT`"),
            (&[("KUBERNETES_HELPER_MEMORY_LIMIT", "lots")], "variable `KUBERNETES_HELPER_MEMORY_LIMIT`: `lots` is no"),
            (
                &[("KUBERNETES_HELPER_MEMORY_LIMIT", "512")],
                "variable KUBERNETES_HELPER_MEMORY_LIMIT gives the helper less",
            ),
            (
                &[("KUBERNETES_HELPER_MEMORY_LIMIT", "38Gi")],
                "1 vCPU and 2 GB, with 38 GB for the helper by variable KUBERNETES_HELPER_MEMORY_LIMIT), and this runner \
                 gives at most 32 GB: ask for less, or raise `size.max_memory`",
            ),
            (&[("KUBERNETES_HELPER_MEMORY_LIMIT", "250Gi")], "no Fargate task has 1 vCPU and 2 GB, with 250 GB for"),
        ] {
            let error =
                ask(&Labels::default(), &variables(pairs), &[], &limits(), &JobSettings::default()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn the_runners_settings_are_the_last_that_counts() {
        let resources = [("cpu_request", "2"), ("memory_limit", "6Gi"), ("ephemeral_storage_request", "40Gi")];
        let resources = resources.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let settings = JobSettings { resources, ..JobSettings::default() };
        for (tags, pairs, expected) in [
            (&[][..], &[][..], (2048, 6144, Some(40))),
            (&["cpu-4", "mem-8g", "disk-50g"], &[], (4096, 8192, Some(50))),
            (&["cpu-4"], &[("KUBERNETES_CPU_REQUEST", "1")], (1024, 6144, Some(40))),
        ] {
            let labels = Labels::read(tags.iter().copied()).unwrap();
            let ask = ask(&labels, &variables(pairs), &[], &limits(), &settings).unwrap();
            assert_eq!((ask.size.cpu_units, ask.size.memory_mib, ask.disk_gib), expected, "{tags:?} {pairs:?}");
        }
    }

    #[test]
    fn a_node_selector_chooses_the_processor() {
        for (value, arch) in [
            ("kubernetes.io/arch=arm64", Some(Arch::Arm64)),
            ("kubernetes.io/arch=amd64", Some(Arch::Amd64)),
            ("topology.kubernetes.io/zone=a", Some(Arch::Amd64)),
            ("kubernetes.io/arch=s390x", None),
        ] {
            let pairs = [("KUBERNETES_NODE_SELECTOR_ARCH", value)];
            let asked = ask(&Labels::default(), &variables(&pairs), &[], &limits(), &JobSettings::default());
            assert_eq!(asked.ok().map(|ask| ask.arch), arch, "{value}");
        }
    }

    #[test]
    fn disk_starts_where_the_free_part_ends() {
        for (disk, gib) in [("20g", None), ("21g", Some(21)), ("20.5g", Some(21)), ("200g", Some(200))] {
            let ask =
                ask(&Labels::default(), &variables(&[("MAYFLY_DISK", disk)]), &[], &limits(), &JobSettings::default())
                    .unwrap();
            assert_eq!(ask.disk_gib, gib, "{disk}");
        }
    }
}
