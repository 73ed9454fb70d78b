//! Adds up samples of what the task's containers use; bounded, however long the job is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::metadata::Used;
use crate::plan::Peaks;

/// Peaks of CPU are of spans at least this long: shorter ones say nothing.
const SHORTEST_SPAN: Duration = Duration::from_millis(500);

/// The containers' names in the task definition; all others are services.
pub(super) const BUILD: &str = "build";
pub(super) const HELPER: &str = "helper";

/// What was used so far.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Usage {
    samples: u64,
    first: Duration,
    last: Duration,
    cpu_ns: u64,
    counted: BTreeMap<String, u64>,
    cpu_peak: f64,
    memory_sum: u128,
    memory_peak: u64,
    peaks: BTreeMap<String, u64>,
    services_peak: u64,
    disk_peak_mib: u64,
}

impl Usage {
    /// Adds what was read `at` after the beginning. Samples come in order.
    pub(super) fn add(&mut self, at: Duration, used: &BTreeMap<String, Used>, disk_mib: u64) {
        self.add_cpu(at, used);
        let memory: u64 = used.values().map(|used| used.memory).sum();
        let is_service = |name: &str| name != BUILD && name != HELPER;
        let services = used.iter().filter(|(name, _)| is_service(name)).map(|(_, used)| used.memory).sum();
        self.memory_sum += u128::from(memory);
        self.memory_peak = self.memory_peak.max(memory);
        self.services_peak = self.services_peak.max(services);
        self.disk_peak_mib = self.disk_peak_mib.max(disk_mib);
        for (name, used) in used {
            let peak = self.peaks.entry(name.clone()).or_default();
            *peak = (*peak).max(used.memory);
        }
        self.samples += 1;
    }

    fn add_cpu(&mut self, at: Duration, used: &BTreeMap<String, Used>) {
        let is_first = self.samples == 0;
        let mut new = 0;
        for (name, used) in used {
            // What a container used before the first sample is of another span; one that came later is new as a whole.
            let before = self.counted.insert(name.clone(), used.cpu_ns).or(is_first.then_some(used.cpu_ns));
            new += used.cpu_ns.saturating_sub(before.unwrap_or_default());
        }
        let span = at.saturating_sub(self.last);
        if is_first {
            self.first = at;
        } else if span >= SHORTEST_SPAN {
            self.cpu_peak = self.cpu_peak.max(new as f64 / span.as_nanos() as f64);
        }
        self.cpu_ns += new;
        self.last = at;
    }

    /// Whether there is enough to judge the job's size by.
    pub(super) fn is_enough(&self) -> bool {
        self.samples >= 3 && self.last.saturating_sub(self.first) >= Duration::from_secs(10)
    }

    /// Whether there are two samples with figures.
    pub(super) fn is_measured(&self) -> bool {
        self.memory_peak > 0 && self.last > self.first
    }

    /// vCPUs on average.
    pub(super) fn cpu_mean(&self) -> f64 {
        let span = self.last.saturating_sub(self.first);
        if span.is_zero() { 0.0 } else { self.cpu_ns as f64 / span.as_nanos() as f64 }
    }

    /// MiB of all containers on average and at the peak.
    pub(super) fn memory_mib(&self) -> (u64, u64) {
        let mean = self.memory_sum.checked_div(u128::from(self.samples)).unwrap_or_default();
        (mib(u64::try_from(mean).unwrap_or(u64::MAX)), mib(self.memory_peak))
    }

    /// MiB of the disk, images included; 0 if the endpoint has no figure.
    pub(super) fn disk_peak_mib(&self) -> u64 {
        self.disk_peak_mib
    }

    /// The peaks that a size has to hold.
    pub(super) fn peaks(&self) -> Peaks {
        let of = |name: &str| self.peaks.get(name).copied().map_or(0, mib);
        Peaks {
            mean_cpu: self.cpu_mean(),
            cpu: self.cpu_peak.max(self.cpu_mean()),
            build_mib: of(BUILD),
            helper_mib: of(HELPER),
            services: self.peaks.keys().filter(|name| *name != BUILD && *name != HELPER).count(),
            services_mib: mib(self.services_peak),
        }
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_means_and_peaks() {
        let mut usage = Usage::default();
        assert!(!usage.is_measured());
        let second = 1_000_000_000;
        for (at, all, disk) in [
            (1, &[(HELPER, 5 * second, 100)][..], 900),
            (2, &[(HELPER, 6 * second, 50), (BUILD, second, 300)], 1000),
            (6, &[(HELPER, 6 * second, 50), (BUILD, 2 * second, 900), ("svc-0", second, 60)], 950),
            // A container that has ended has no figures any more.
            (11, &[(HELPER, 6 * second, 50), (BUILD, 2 * second, 100)], 950),
        ] {
            let of = |(name, cpu_ns, mib): &(&str, u64, u64)| {
                ((*name).to_owned(), Used { cpu_ns: *cpu_ns, memory: mib << 20 })
            };
            usage.add(Duration::from_secs(at), &all.iter().map(of).collect(), disk);
        }
        let peaks = usage.peaks();
        assert_eq!((peaks.build_mib, peaks.helper_mib, peaks.services, peaks.services_mib), (900, 100, 1, 60));
        assert!((usage.cpu_mean() - 0.4).abs() < 0.001 && (peaks.cpu - 2.0).abs() < 0.001, "{usage:?}");
        assert_eq!((usage.memory_mib(), usage.disk_peak_mib()), ((403, 1010), 1000));
        assert!(usage.is_measured() && usage.is_enough());
    }
}
