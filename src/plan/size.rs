//! Owns the table of legal Fargate sizes (aws.md §1.1) and rounding up to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::quantity::{Mib, Millicpu};

/// A size that Fargate offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskSize {
    /// CPU units, 1,024 a vCPU.
    pub cpu_units: u32,
    /// MiB.
    pub memory_mib: u32,
}

/// One row of the table: CPU units, and the memory that may go with them.
struct Row {
    cpu_units: u32,
    memory: Memory,
}

enum Memory {
    Steps { from: u32, to: u32, step: u32 },
    Only(&'static [u32]),
}

const TABLE: [Row; 8] = [
    Row { cpu_units: 256, memory: Memory::Only(&[512, 1024, 2048]) },
    Row { cpu_units: 512, memory: Memory::Steps { from: 1024, to: 4096, step: 1024 } },
    Row { cpu_units: 1024, memory: Memory::Steps { from: 2048, to: 8192, step: 1024 } },
    Row { cpu_units: 2048, memory: Memory::Steps { from: 4096, to: 16384, step: 1024 } },
    Row { cpu_units: 4096, memory: Memory::Steps { from: 8192, to: 30720, step: 1024 } },
    Row { cpu_units: 8192, memory: Memory::Steps { from: 16384, to: 61440, step: 4096 } },
    Row { cpu_units: 16384, memory: Memory::Steps { from: 32768, to: 122_880, step: 8192 } },
    Row { cpu_units: 32768, memory: Memory::Only(&[61440, 122_880, 249_856]) },
];

impl TaskSize {
    /// All legal sizes, smallest CPU first, then smallest memory.
    pub fn all() -> impl Iterator<Item = TaskSize> {
        TABLE.iter().flat_map(|row| {
            let memory: Vec<u32> = match row.memory {
                Memory::Steps { from, to, step } => (from..=to).step_by(step as usize).collect(),
                Memory::Only(list) => list.to_vec(),
            };
            memory.into_iter().map(|memory_mib| TaskSize { cpu_units: row.cpu_units, memory_mib })
        })
    }

    /// vCPUs.
    pub fn vcpus(self) -> f64 {
        f64::from(self.cpu_units) / 1024.0
    }

    /// GiB.
    pub fn memory_gib(self) -> f64 {
        f64::from(self.memory_mib) / 1024.0
    }
}

impl fmt::Display for TaskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vCPU, {} GB", self.vcpus(), self.memory_gib())
    }
}

/// The smallest legal size with at least `cpu` and `memory`; nothing asked is nothing needed.
///
/// `None` when Fargate offers none that large.
pub fn smallest_size(cpu: Option<Millicpu>, memory: Option<Mib>) -> Option<TaskSize> {
    let cpu_units = cpu.map_or(0, Millicpu::cpu_units);
    let memory_mib = memory.map_or(0, |Mib(mib)| mib);
    TaskSize::all().find(|size| u64::from(size.cpu_units) >= cpu_units && u64::from(size.memory_mib) >= memory_mib)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_asked_is_rounded_up_to_the_next_legal_size() {
        let cpu = |vcpus: u64| Some(Millicpu(vcpus * 1000));
        let gib = |gib: u64| Some(Mib(gib * 1024));
        for (cpu, memory, expected) in [
            (cpu(1), gib(2), (1024, 2048)),
            (cpu(4), None, (4096, 8192)),
            (None, gib(8), (1024, 8192)),
            (None, gib(9), (2048, 9216)),
            (cpu(3), gib(5), (4096, 8192)),
            (Some(Millicpu(250)), gib(4), (512, 4096)),
            (cpu(8), gib(17), (8192, 20480)),
            (cpu(32), gib(61), (32768, 122_880)),
            (None, gib(244), (32768, 249_856)),
        ] {
            let size = smallest_size(cpu, memory).unwrap();
            assert_eq!((size.cpu_units, size.memory_mib), expected, "{cpu:?} {memory:?}");
        }
        assert_eq!(smallest_size(cpu(33), None), None);
        assert_eq!(smallest_size(None, gib(245)), None);
    }

    proptest! {
        #[test]
        fn a_size_is_legal_and_never_smaller_than_asked(cpu in 0u64..40_000, memory in 0u64..300_000) {
            if let Some(size) = smallest_size(Some(Millicpu(cpu)), Some(Mib(memory))) {
                prop_assert!(TaskSize::all().any(|legal| legal == size));
                prop_assert!(u64::from(size.cpu_units) * 1000 >= cpu * 1024);
                prop_assert!(u64::from(size.memory_mib) >= memory);
                let smaller = TaskSize::all().filter(|s| *s < size && s.cpu_units < size.cpu_units);
                for other in smaller {
                    prop_assert!(u64::from(other.cpu_units) * 1000 < cpu * 1024 || u64::from(other.memory_mib) < memory);
                }
            } else {
                prop_assert!(cpu > 32_000 || memory > 249_856);
            }
        }
    }
}
