//! Owns how often a caller may ask what (aws.md §1.4), in token buckets that fill with the sandbox's clock.

use std::collections::HashMap;

use jiff::Timestamp;

/// The buckets of one account.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    left: HashMap<&'static str, (f64, Timestamp)>,
    launches: HashMap<bool, (f64, Timestamp)>,
}

struct Bucket {
    name: &'static str,
    burst: f64,
    per_second: f64,
}

impl Buckets {
    /// Takes one call of `operation` out of all its buckets, or nothing if one of them is empty.
    pub(super) fn take(&mut self, operation: &str, now: Timestamp) -> bool {
        let buckets = buckets(operation);
        let levels: Vec<f64> = buckets.iter().map(|bucket| self.level(bucket, now)).collect();
        if levels.iter().any(|level| *level < 1.0) {
            return false;
        }
        for (bucket, level) in buckets.iter().zip(levels) {
            self.left.insert(bucket.name, (level - 1.0, now));
        }
        true
    }

    /// Takes the launch of one task, on Spot or on demand, which have a rate each.
    pub(super) fn launch(&mut self, spot: bool, (burst, per_second): (f64, f64), now: Timestamp) -> bool {
        let (left, since) = self.launches.get(&spot).copied().unwrap_or((burst, now));
        let left = (left + now.duration_since(since).as_secs_f64().max(0.0) * per_second).min(burst);
        let is_left = left >= 1.0;
        self.launches.insert(spot, (if is_left { left - 1.0 } else { left }, now));
        is_left
    }

    fn level(&self, bucket: &Bucket, now: Timestamp) -> f64 {
        let Some((left, since)) = self.left.get(bucket.name) else { return bucket.burst };
        let seconds = now.duration_since(*since).as_secs_f64().max(0.0);
        (left + seconds * bucket.per_second).min(bucket.burst)
    }
}

fn buckets(operation: &str) -> Vec<Bucket> {
    let bucket =
        |name, burst: u32, per_second: u32| Bucket { name, burst: burst.into(), per_second: per_second.into() };
    let cluster_modify = || bucket("cluster-modify", 100, 40);
    match operation {
        "RunTask" => vec![bucket("run-task", 20, 20), cluster_modify()],
        "StopTask" => vec![cluster_modify()],
        "DescribeTasks" | "ListTasks" | "DescribeClusters" => vec![bucket("cluster-read", 100, 20)],
        "RegisterTaskDefinition" | "DeregisterTaskDefinition" => vec![bucket("definition-modify", 20, 1)],
        "DescribeTaskDefinition" | "ListTaskDefinitions" | "ListTaskDefinitionFamilies" => {
            vec![bucket("definition-read", 50, 20)]
        }
        "DeleteTaskDefinitions" => vec![bucket("definition-delete", 5, 1)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn register_and_deregister_share_twenty_calls_and_one_more_each_second() {
        let mut buckets = Buckets::default();
        let start = Timestamp::UNIX_EPOCH;
        for call in 0..20 {
            let operation = ["RegisterTaskDefinition", "DeregisterTaskDefinition"][call % 2];
            assert!(buckets.take(operation, start));
        }

        assert!(!buckets.take("RegisterTaskDefinition", start));
        assert!(!buckets.take("DeregisterTaskDefinition", start + SignedDuration::from_millis(900)));
        assert!(buckets.take("DeregisterTaskDefinition", start + SignedDuration::from_secs(1)));
        assert!(!buckets.take("RegisterTaskDefinition", start + SignedDuration::from_secs(1)));
    }

    #[test]
    fn run_task_has_twenty_calls_a_second_and_a_refused_call_costs_nothing() {
        let mut buckets = Buckets::default();
        let start = Timestamp::UNIX_EPOCH;
        let taken = (0..100).filter(|_| buckets.take("RunTask", start)).count();

        assert_eq!(taken, 20);
        assert!(buckets.take("RunTask", start + SignedDuration::from_millis(50)));
    }
}
