//! Compares what a job used with what its task had: which labels fit it better.

use serde::Serialize;

use super::labels::VOCABULARY;
use super::memory::{MemorySplit, split_memory};
use super::{Arch, TaskSize, price_per_minute};

/// What the containers of a task used at their peaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Peaks {
    /// vCPUs on average.
    pub mean_cpu: f64,
    /// vCPUs.
    pub cpu: f64,
    /// MiB of the scripts.
    pub build_mib: u64,
    /// MiB of sources, cache and artifacts.
    pub helper_mib: u64,
    /// How many services there are.
    pub services: usize,
    /// MiB of the services together.
    pub services_mib: u64,
}

/// What a job's labels should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Advice {
    /// Far more was asked than used.
    Smaller {
        /// Enough, with a quarter to spare.
        size: TaskSize,
    },
    /// The scripts came within a tenth of their memory.
    MoreMemory {
        /// The next one with more.
        size: TaskSize,
    },
    /// All CPUs were busy nearly all the time.
    MoreCpu {
        /// The next one with more.
        size: TaskSize,
    },
}

/// A smaller size is named from this share of the price on.
const WORTH_IT: f64 = 0.7;

/// What to ask for instead of `size`, whose memory was split so; `None` where it fits.
pub fn advice(size: TaskSize, memory: MemorySplit, peaks: &Peaks) -> Option<Advice> {
    let labelled = || TaskSize::all().filter(|size| size_labels(*size).is_some());
    let cheapest = |sizes: &mut dyn Iterator<Item = TaskSize>| sizes.min_by(|a, b| weight(*a).total_cmp(&weight(*b)));
    if peaks.build_mib * 10 >= u64::from(memory.build_mib) * 9 {
        let more = |other: &TaskSize| other.cpu_units >= size.cpu_units && other.memory_mib > size.memory_mib;
        return cheapest(&mut labelled().filter(more)).map(|size| Advice::MoreMemory { size });
    }
    if peaks.mean_cpu >= size.vcpus() * 0.9 {
        let more = |other: &TaskSize| other.cpu_units > size.cpu_units && other.memory_mib >= size.memory_mib;
        return cheapest(&mut labelled().filter(more)).map(|size| Advice::MoreCpu { size });
    }
    let smaller = cheapest(&mut labelled().filter(|other| fits(*other, peaks)))?;
    (weight(smaller) <= weight(size) * WORTH_IT).then_some(Advice::Smaller { size: smaller })
}

/// The labels that ask for exactly `size`, if the vocabulary has them.
pub fn size_labels(size: TaskSize) -> Option<[String; 2]> {
    let memory = match size.memory_mib {
        mib if mib.is_multiple_of(1024) => format!("mem-{}g", mib / 1024),
        mib => format!("mem-{mib}m"),
    };
    let labels = [format!("cpu-{}", size.vcpus()), memory];
    labels.iter().all(|label| VOCABULARY.contains(&label.as_str())).then_some(labels)
}

fn fits(size: TaskSize, peaks: &Peaks) -> bool {
    let with_room = |mib: u64| mib + mib / 4;
    let Some(split) = split_memory(size, peaks.services, None, None) else { return false };
    let services = u64::from(split.service_mib) * peaks.services as u64;
    let more_for_services = with_room(peaks.services_mib).saturating_sub(services);
    peaks.cpu * 1.25 <= size.vcpus()
        && with_room(peaks.build_mib) + more_for_services <= u64::from(split.build_mib)
        && with_room(peaks.helper_mib) <= u64::from(split.helper_mib)
}

/// Orders sizes as prices do, in any region: a vCPU costs as much as nine GiB.
fn weight(size: TaskSize) -> f64 {
    let price = price_per_minute("us-east-1", size, Arch::Amd64, None);
    price.map_or_else(|| size.vcpus() * 9.0 + size.memory_gib(), |price| price.per_minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(cpu_units: u32, gib: u32) -> TaskSize {
        TaskSize { cpu_units, memory_mib: gib * 1024 }
    }

    #[test]
    fn what_was_used_decides_what_should_be_asked() {
        let small = Peaks { mean_cpu: 0.2, cpu: 0.4, build_mib: 300, helper_mib: 100, ..Peaks::default() };
        for (had, peaks, expected) in [
            (size(4096, 8), small, Some(Advice::Smaller { size: size(512, 1) })),
            (size(512, 1), small, None),
            (size(1024, 2), Peaks { cpu: 0.8, ..small }, None),
            (size(4096, 8), Peaks { cpu: 3.5, ..small }, None),
            (size(4096, 8), Peaks { build_mib: 1500, ..small }, Some(Advice::Smaller { size: size(512, 3) })),
            (size(4096, 8), Peaks { helper_mib: 400, ..small }, Some(Advice::Smaller { size: size(512, 4) })),
            (size(1024, 2), Peaks { build_mib: 1700, ..small }, Some(Advice::MoreMemory { size: size(1024, 3) })),
            (size(1024, 8), Peaks { build_mib: 7600, ..small }, Some(Advice::MoreMemory { size: size(2048, 12) })),
            (size(1024, 2), Peaks { mean_cpu: 0.95, cpu: 1.0, ..small }, Some(Advice::MoreCpu { size: size(2048, 4) })),
            (
                size(4096, 8),
                Peaks { services: 2, services_mib: 1000, ..small },
                Some(Advice::Smaller { size: size(512, 2) }),
            ),
        ] {
            let memory = split_memory(had, peaks.services, None, None).unwrap();
            assert_eq!(advice(had, memory, &peaks), expected, "{had} {peaks:?}");
        }
    }

    #[test]
    fn only_sizes_of_the_vocabulary_have_labels() {
        assert_eq!(size_labels(size(512, 1)), Some(["cpu-0.5".into(), "mem-1g".into()]));
        assert_eq!(
            size_labels(TaskSize { cpu_units: 256, memory_mib: 512 }),
            Some(["cpu-0.25".into(), "mem-512m".into()])
        );
        assert_eq!(size_labels(size(1024, 5)), None);
    }
}
