//! Owns what Fargate asks for a task.

use super::{Arch, TaskSize};

/// Dollars a minute, and how old the table is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// US dollars for one minute on demand.
    pub per_minute: f64,
    /// When the table was read.
    pub as_of: &'static str,
}

struct Rates {
    region: &'static str,
    vcpu_hour: f64,
    gib_hour: f64,
    arm_vcpu_hour: f64,
    arm_gib_hour: f64,
    disk_gib_hour: f64,
    as_of: &'static str,
}

/// Linux, on demand (aws.md §8). Regions that nobody has looked up have no row.
const RATES: [Rates; 1] = [Rates {
    region: "us-east-1",
    vcpu_hour: 0.04048,
    gib_hour: 0.004_445,
    arm_vcpu_hour: 0.03238,
    arm_gib_hour: 0.003_56,
    disk_gib_hour: 0.000_111,
    as_of: "April 2026",
}];

/// Dollars an hour for a task's public IPv4 address (aws.md §8).
const PUBLIC_ADDRESS_HOUR: f64 = 0.005;

impl Price {
    /// Dollars for a task that Fargate counts for `seconds`, a minute at least.
    pub fn of_run(&self, seconds: f64, public_address: bool) -> f64 {
        let address = if public_address { PUBLIC_ADDRESS_HOUR / 60.0 } else { 0.0 };
        (self.per_minute + address) * seconds.max(60.0) / 60.0
    }
}

/// What a minute of a task costs on demand in `region`; `None` where the region's prices are not known.
pub fn price_per_minute(region: &str, size: TaskSize, arch: Arch, disk_gib: Option<u32>) -> Option<Price> {
    let rates = RATES.iter().find(|rates| rates.region == region)?;
    let (vcpu, gib) = match arch {
        Arch::Amd64 => (rates.vcpu_hour, rates.gib_hour),
        Arch::Arm64 => (rates.arm_vcpu_hour, rates.arm_gib_hour),
    };
    let extra_disk = f64::from(disk_gib.unwrap_or(20).saturating_sub(20));
    let hour = size.vcpus() * vcpu + size.memory_gib() * gib + extra_disk * rates.disk_gib_hour;
    Some(Price { per_minute: hour / 60.0, as_of: rates.as_of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_costs_what_the_table_says() {
        let price = |cpu_units, gib: u32, arch| {
            let size = TaskSize { cpu_units, memory_mib: gib * 1024 };
            price_per_minute("us-east-1", size, arch, None).unwrap().per_minute
        };
        assert!((price(1024, 2, Arch::Amd64) - 0.00082).abs() < 0.00001);
        assert!((price(4096, 8, Arch::Amd64) - 0.00329).abs() < 0.00001);
        assert!((price(1024, 2, Arch::Arm64) / price(1024, 2, Arch::Amd64) - 0.80).abs() < 0.01);
        let size = TaskSize { cpu_units: 1024, memory_mib: 2048 };
        let minute = price_per_minute("us-east-1", size, Arch::Amd64, None).unwrap();
        assert_eq!(minute.of_run(20.0, false), minute.per_minute);
        assert!((minute.of_run(7200.0, true) - 120.0 * minute.per_minute - 0.01).abs() < 0.000_001);
        assert_eq!(price_per_minute("mars-1", size, Arch::Amd64, None), None);
    }
}
