//! The figures of a run.

use std::collections::BTreeMap;

use mayfly::sandbox::traffic::Seen;

use crate::world::World;

impl World {
    /// Prints the figures, and returns the requests by kind.
    pub fn report(&self, name: &str, seed: u64, real: std::time::Duration) {
        let jobs = self.jobs.len();
        let started = self.jobs.iter().filter_map(|job| job.started_at()).min();
        let finished = self.jobs.iter().filter_map(|job| job.finished_at()).max();
        let simulated = started.zip(finished).map(|(from, to)| to.duration_since(from).as_secs()).unwrap_or_default();
        println!("{name}: seed {seed}, {jobs} jobs, {simulated} s simulated in {:.1} s", real.as_secs_f64());
        println!("  most jobs claimed without a task: {}", self.most_unlaunched.lock().expect("no panic"));
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for seen in self.sandbox.traffic.seen() {
            *kinds.entry(kind(&seen)).or_default() += 1;
        }
        let line: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{kind} {:.2}", *count as f64 / jobs as f64)).collect();
        println!("  requests per job: {}", line.join(", "));
        let (cpu, memory) = (cpu_seconds(), peak_memory_mib());
        println!(
            "  GitLab, AWS and Mayfly together: {:.1} ms of CPU per job, {memory} MiB of memory",
            cpu * 1e3 / jobs as f64
        );
    }
}

/// The CPU time of this process, in seconds (proc(5): fields 14 and 15, in ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that this process had.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

fn kind(seen: &Seen) -> String {
    let method = if seen.path.contains("list-type=2") { "LIST" } else { seen.method.as_str() };
    match (seen.server, seen.path.as_str()) {
        ("s3", _) => format!("s3 {method}"),
        ("ecs", operation) => format!("ecs {operation}"),
        ("gitlab", path) if path.ends_with("/jobs/request") => "gitlab claim".into(),
        (server, _) => format!("{server} other"),
    }
}
