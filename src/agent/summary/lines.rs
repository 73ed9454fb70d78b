//! Makes lines for the job's log of its figures.

use std::time::Duration;

use super::figures::{Figures, Step};
use crate::agent::durations::format_duration;
use crate::plan::{Advice, TaskSize, size_labels, split_memory};

/// A step is named in the headline from this share of the time on.
const MOST: f64 = 0.5;

impl Figures {
    /// The lines of the summary; what is not known is left out.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = steps("Before the job", &self.before);
        lines.extend(steps("The job", &self.stages));
        lines.extend(self.use_lines());
        lines.extend(self.price_line());
        lines.extend(self.advice_line());
        lines
    }

    fn use_lines(&self) -> Vec<String> {
        let Some(task) = self.task.as_ref().filter(|_| self.usage.is_measured()) else { return Vec::new() };
        let (peaks, (mean, peak)) = (self.usage.peaks(), self.usage.memory_mib());
        let mut lines = vec![
            format!(
                "CPU: {:.2} of {} vCPU on average, {:.2} at the peak",
                peaks.mean_cpu,
                task.size.vcpus(),
                peaks.cpu
            ),
            format!(
                "Memory: {mean} of {} MB on average, {peak} at the peak (script {} of {}, helper {} of {})",
                task.size.memory_mib, peaks.build_mib, task.memory.build_mib, peaks.helper_mib, task.memory.helper_mib
            ),
        ];
        if self.usage.disk_peak_mib() > 0 {
            let disk = self.usage.disk_peak_mib() as f64 / 1024.0;
            lines.push(format!("Disk: {disk:.1} of {} GB at the peak, images included", task.disk_gib.unwrap_or(20)));
        }
        lines
    }

    fn price_line(&self) -> Option<String> {
        let (task, cost, billed) = (self.task.as_ref()?, self.cost()?, self.billed?);
        let most = if task.spot { "at most " } else { "" };
        let address = if task.public_address { ", public address included" } else { "" };
        let time = match billed.as_secs() {
            0..60 => "1m0s, the least that Fargate counts".to_owned(),
            _ => format!("{} since the image pull", format_duration(billed)),
        };
        let (dollars, place, as_of) = (cost.dollars, &task.region, cost.price.as_of);
        Some(format!("Price: {most}${dollars:.5} for {time}{address} ({}; {place}, prices of {as_of})", task.size))
    }

    fn advice_line(&self) -> Option<String> {
        let task = self.task.as_ref()?;
        let labels = |size: TaskSize| size_labels(size).map(|[cpu, memory]| format!("`{cpu}` and `{memory}`"));
        match self.advice()? {
            Advice::Smaller { size } => {
                let cost = self.cost().and_then(|cost| Some((cost.advised?, cost.dollars)));
                let saved = match cost {
                    Some((less, all)) => {
                        format!(" for ${less:.5}: ${:.5} less, {:.0} %", all - less, 100.0 * (1.0 - less / all))
                    }
                    None => String::new(),
                };
                Some(format!("Size: the tags {} would be enough{saved}", labels(size)?))
            }
            Advice::MoreMemory { size } => {
                let memory = split_memory(size, self.usage.peaks().services, None, None)?;
                let (all, more) = (task.memory.build_mib, memory.build_mib);
                Some(format!(
                    "Size: the script nearly ran out of its {all} MB; the tags {} give it {more}",
                    labels(size)?
                ))
            }
            Advice::MoreCpu { size } => {
                let cpus = task.size.vcpus();
                Some(format!("Size: all of {cpus} vCPU was busy; the tags {} may make the job faster", labels(size)?))
            }
        }
    }
}

fn steps(what: &str, steps: &[Step]) -> Vec<String> {
    let all: Duration = steps.iter().map(|(_, span)| *span).sum();
    let Some((longest, span)) = steps.iter().max_by_key(|(_, span)| *span) else { return Vec::new() };
    let headline = match span.as_secs_f64() >= MOST * all.as_secs_f64() && steps.len() > 1 && span.as_secs() > 0 {
        true => format!("{what}: {longest} took {} of {}", seconds(*span), seconds(all)),
        false => format!("{what}: {}", seconds(all)),
    };
    let line = |(name, span): &Step| format!("  {name:<28} {:>9}", seconds(*span));
    [headline].into_iter().chain(steps.iter().map(line)).collect()
}

/// Tenths below a minute, then as Go writes them.
fn seconds(span: Duration) -> String {
    if span.as_secs() < 60 { format!("{:.1} s", span.as_secs_f64()) } else { format_duration(span) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::agent::metadata::Used;
    use crate::agent::summary::usage::Usage;
    use crate::ledger::wire::TaskFacts;
    use crate::plan::Arch;

    fn span(name: &str, seconds: f64) -> Step {
        (name.to_owned(), Duration::from_secs_f64(seconds))
    }

    /// Of a task that used `cpu` vCPUs and `build` MiB for 20 s.
    fn figures(cpu_units: u32, gib: u32, cpu: f64, build: u64) -> Figures {
        let size = TaskSize { cpu_units, memory_mib: gib * 1024 };
        let mut usage = Usage::default();
        for at in [0, 10, 20] {
            let used = |cpu: f64, mib: u64| Used { cpu_ns: (cpu * at as f64 * 1e9) as u64, memory: mib << 20 };
            let all = BTreeMap::from([("build".to_owned(), used(cpu, build)), ("helper".to_owned(), used(0.0, 100))]);
            usage.add(Duration::from_secs(at), &all, 2048);
        }
        let task = TaskFacts {
            size,
            memory: split_memory(size, 0, None, None).unwrap(),
            disk_gib: None,
            arch: Arch::Amd64,
            spot: false,
            public_address: true,
            region: "us-east-1".into(),
        };
        let before = vec![span("claim to RunTask", 0.8), span("image pull", 33.0), span("start of the agent", 7.2)];
        let stages = vec![span("get_sources", 1.25), span("step_script", 125.0)];
        let billed = Some(Duration::from_secs(170));
        Figures { before, stages, billed, usage, task: Some(task) }
    }

    #[test]
    fn a_summary_has_times_figures_price_and_advice() {
        insta::assert_snapshot!(figures(4096, 8, 0.4, 300).lines().join("\n"), @"
        Before the job: image pull took 33.0 s of 41.0 s
          claim to RunTask                 0.8 s
          image pull                      33.0 s
          start of the agent               7.2 s
        The job: step_script took 2m5s of 2m6s
          get_sources                      1.2 s
          step_script                       2m5s
        CPU: 0.40 of 4 vCPU on average, 0.40 at the peak
        Memory: 400 of 8192 MB on average, 400 at the peak (script 300 of 7680, helper 100 of 512)
        Disk: 2.0 of 20 GB at the peak, images included
        Price: $0.00956 for 2m50s since the image pull, public address included (4 vCPU, 8 GB; us-east-1, prices of April 2026)
        Size: the tags `cpu-0.5` and `mem-1g` would be enough for $0.00140: $0.00816 less, 85 %
        ");
    }

    #[test]
    fn a_size_that_is_near_its_limit_is_named_with_the_next() {
        for (figures, expected) in [
            (figures(512, 1, 0.4, 300), None),
            (
                figures(1024, 2, 0.4, 1700),
                Some("Size: the script nearly ran out of its 1792 MB; the tags `cpu-1` and `mem-3g` give it 2688"),
            ),
            (
                figures(1024, 2, 0.97, 300),
                Some("Size: all of 1 vCPU was busy; the tags `cpu-2` and `mem-4g` may make the job faster"),
            ),
        ] {
            assert_eq!(figures.advice_line().as_deref(), expected);
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let all = figures(4096, 8, 0.4, 300);
        assert!(Figures::default().lines().is_empty());
        let elsewhere = TaskFacts { region: "mars-1".into(), spot: true, ..all.task.clone().unwrap() };
        let elsewhere = Figures { task: Some(elsewhere), ..all.clone() };
        assert_eq!(elsewhere.price_line(), None);
        assert_eq!(elsewhere.advice_line().as_deref(), Some("Size: the tags `cpu-0.5` and `mem-1g` would be enough"));
        let short = Figures { billed: Some(Duration::from_secs(12)), ..all.clone() };
        let price = short.price_line().unwrap();
        assert!(price.starts_with("Price: $0.00337 for 1m0s, the least that Fargate counts, public"), "{price}");
        let unmeasured = Figures { usage: Usage::default(), ..all };
        assert!(!unmeasured.lines().iter().any(|line| line.starts_with("CPU") || line.starts_with("Size")));
    }

    #[test]
    fn operators_get_the_same_figures_as_json() {
        let json = figures(4096, 8, 0.4, 300).json();
        assert_eq!(json["before_s"]["image pull"], 33.0);
        assert_eq!(json["peaks"]["build_mib"], 300);
        assert_eq!(json["advice"]["is"], "smaller");
        assert!(json["saved_dollars"].as_f64().unwrap() > 0.008, "{json}");
    }
}
