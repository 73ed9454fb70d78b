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
    }
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
