//! Owns how a task's memory is split between its containers.

use serde::{Deserialize, Serialize};

use super::quantity::{Mib, Millicpu};
use super::{TaskSize, smallest_size};

/// MiB of each container; hard limits, but for services without a figure of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySplit {
    /// For sources, cache and artifacts.
    pub helper_mib: u32,
    /// For the job's scripts.
    pub build_mib: u32,
    /// For each service; a hard limit only where the job gave a figure.
    pub service_mib: u32,
    /// The job gave the services' figure.
    pub service_is_limit: bool,
}

/// What the job or its runner's settings give the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperMemory {
    /// The figure.
    pub figure: Mib,
    /// A limit may be below what the helper gets without one; a request alone only raises that.
    pub is_limit: bool,
    /// Where it comes from, for example `variable KUBERNETES_HELPER_MEMORY_LIMIT`.
    pub given_by: String,
}

/// The least that the agent and git need.
const LEAST_HELPER_MIB: u32 = 160;

/// What is kept for a service that the job gave no figure for.
const SERVICE_RESERVE_MIB: u32 = 256;

/// The least that a script gets.
const LEAST_BUILD_MIB: u32 = 128;

/// What the helper gets in a task of `size` where no figure is given.
fn helper_reserve(size: TaskSize) -> u32 {
    (size.memory_mib / 8).clamp(LEAST_HELPER_MIB, 512)
}

impl HelperMemory {
    /// MiB in a task of `size`.
    fn in_task(&self, size: TaskSize) -> u64 {
        let least = if self.is_limit { LEAST_HELPER_MIB } else { helper_reserve(size) };
        self.figure.0.max(u64::from(least))
    }
}

/// The smallest size with what is asked, in which the script has what it would have beside a helper without a figure.
pub(super) fn size_with_helper(
    cpu: Option<Millicpu>,
    memory: Option<Mib>,
    helper: Option<&HelperMemory>,
) -> Option<TaskSize> {
    let size = smallest_size(cpu, memory)?;
    let Some(helper) = helper else { return Some(size) };
    let others = size.memory_mib - helper_reserve(size);
    let all = Mib(u64::from(others) + helper.in_task(size));
    smallest_size(cpu, Some(memory.map_or(all, |memory| memory.max(all))))
}

/// Splits the memory of a task of `size` with `services` services; `None` when they leave nothing for the scripts.
///
/// `build` has a hard limit, so that a script that takes too much is killed alone and the helper can say so.
pub fn split_memory(
    size: TaskSize,
    services: usize,
    service_memory: Option<Mib>,
    helper: Option<&HelperMemory>,
) -> Option<MemorySplit> {
    let helper_mib = match helper {
        Some(helper) => u32::try_from(helper.in_task(size)).ok()?,
        None => helper_reserve(size),
    };
    let service_mib = match service_memory {
        Some(Mib(mib)) => u32::try_from(mib).ok()?,
        None => SERVICE_RESERVE_MIB.min(size.memory_mib / 8),
    };
    let services = service_mib.checked_mul(u32::try_from(services).ok()?)?;
    let build_mib = size.memory_mib.checked_sub(helper_mib)?.checked_sub(services)?;
    (build_mib >= LEAST_BUILD_MIB).then_some(MemorySplit {
        helper_mib,
        build_mib,
        service_mib,
        service_is_limit: service_memory.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn helper_memory(mib: u64, is_limit: bool) -> HelperMemory {
        HelperMemory { figure: Mib(mib), is_limit, given_by: String::new() }
    }

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_task(index in 0usize..60, services in 0usize..8, figure in proptest::option::of(1u64..5000), helper in proptest::option::of((1u64..300_000, proptest::bool::ANY))) {
            let size = TaskSize::all().nth(index % TaskSize::all().count()).unwrap();
            let helper = helper.map(|(mib, is_limit)| helper_memory(mib, is_limit));
            if let Some(split) = split_memory(size, services, figure.map(Mib), helper.as_ref()) {
                let all = split.helper_mib + split.build_mib + split.service_mib * services as u32;
                prop_assert!(all <= size.memory_mib && split.helper_mib >= LEAST_HELPER_MIB);
                prop_assert!(split.build_mib >= LEAST_BUILD_MIB);
            }
        }
    }

    #[test]
    fn the_smallest_task_still_runs_a_script() {
        let split = split_memory(TaskSize { cpu_units: 256, memory_mib: 512 }, 0, None, None).unwrap();
        assert_eq!((split.helper_mib, split.build_mib), (160, 352));
    }

    #[test]
    fn a_limit_is_the_helpers_and_a_request_only_raises_what_it_has() {
        let size = TaskSize { cpu_units: 1024, memory_mib: 4096 };
        for (mib, is_limit, expected) in [
            (1024, true, Some((1024, 3072))),
            (256, true, Some((256, 3840))),
            (100, true, Some((160, 3936))),
            (256, false, Some((512, 3584))),
            (1024, false, Some((1024, 3072))),
            (4000, true, None),
        ] {
            let split = split_memory(size, 0, None, Some(&helper_memory(mib, is_limit)));
            assert_eq!(split.map(|split| (split.helper_mib, split.build_mib)), expected, "{mib} {is_limit}");
        }
    }
}
