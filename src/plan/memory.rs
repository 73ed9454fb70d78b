//! Owns how a task's memory is split between its containers.

use serde::{Deserialize, Serialize};

use super::TaskSize;
use super::quantity::Mib;

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

/// What is kept for a service that the job gave no figure for.
const SERVICE_RESERVE_MIB: u32 = 256;

/// The least that a script gets.
const LEAST_BUILD_MIB: u32 = 128;

/// Splits the memory of a task of `size` with `services` services; `None` when they leave nothing for the scripts.
///
/// `build` has a hard limit, so that a script that takes too much is killed alone and the helper can say so.
pub fn split_memory(size: TaskSize, services: usize, service_memory: Option<Mib>) -> Option<MemorySplit> {
    let helper_mib = (size.memory_mib / 8).clamp(160, 512);
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

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_task(index in 0usize..60, services in 0usize..8, figure in proptest::option::of(1u64..5000)) {
            let size = TaskSize::all().nth(index % TaskSize::all().count()).unwrap();
            if let Some(split) = split_memory(size, services, figure.map(Mib)) {
                let all = split.helper_mib + split.build_mib + split.service_mib * services as u32;
                prop_assert!(all <= size.memory_mib);
                prop_assert!(split.build_mib >= LEAST_BUILD_MIB);
            }
        }
    }

    #[test]
    fn the_smallest_task_still_runs_a_script() {
        let split = split_memory(TaskSize { cpu_units: 256, memory_mib: 512 }, 0, None).unwrap();
        assert_eq!((split.helper_mib, split.build_mib), (160, 352));
    }
}
