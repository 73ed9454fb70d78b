//! Says in one line how far a pipeline is.

use std::time::Duration;

use crate::cli::clean::plain;
use crate::cli::words::clock;

/// Running jobs that are named; the rest is an ellipsis.
const MOST_NAMES: usize = 6;

/// How far a pipeline is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The names of the jobs that run.
    pub(super) running: Vec<String>,
    /// Jobs that wait for their delay.
    pub(super) delayed: usize,
    /// The one of them that starts first, and when.
    pub(super) next: Option<(Duration, String)>,
    /// Jobs that are over.
    pub(super) done: usize,
    /// Jobs that are over and failed.
    pub(super) failed: usize,
    /// All jobs but those that wait for a person.
    pub(super) all: usize,
    /// Whether the run is being cancelled.
    pub(super) canceling: bool,
}

impl Progress {
    /// Takes a job's status into account; a delayed one `starts_in` so long.
    pub(super) fn count(&mut self, name: &str, status: &str, starts_in: Option<Duration>) {
        if let Some(delay) = starts_in
            && self.next.as_ref().is_none_or(|(soonest, _)| delay < *soonest)
        {
            self.next = Some((delay, name.to_owned()));
        }
        self.all += usize::from(status != "manual");
        match status {
            "running" | "canceling" => self.running.push(name.to_owned()),
            "scheduled" => self.delayed += 1,
            "failed" => {
                self.failed += 1;
                self.done += 1;
            }
            "success" | "canceled" | "skipped" => self.done += 1,
            _ => {}
        }
    }

    /// `3 running · 5 of 12 done · 1 failed · 0:42  build, lint, unit-2…`
    pub(super) fn words(&self, since: Duration) -> String {
        let mut parts = Vec::new();
        if self.canceling {
            parts.push("canceling".to_owned());
        }
        parts.push(format!("{} running", self.running.len()));
        if self.delayed > 0 {
            let next = self.next.as_ref().map(|(delay, name)| format!(" (`{}` in {})", plain(name), clock(*delay)));
            parts.push(format!("{} delayed{}", self.delayed, next.unwrap_or_default()));
        }
        parts.push(format!("{} of {} done", self.done, self.all));
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        parts.push(clock(since));
        let names: Vec<String> = self.running.iter().take(MOST_NAMES).map(|name| plain(name)).collect();
        let more = if self.running.len() > MOST_NAMES { "…" } else { "" };
        format!("{}  {}{more}", parts.join(" · "), names.join(", ")).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_the_pipeline_is() {
        let mut progress = Progress::default();
        for (name, status) in [
            ("build", "running"),
            ("lint", "canceling"),
            ("a", "success"),
            ("b", "failed"),
            ("c", "skipped"),
            ("d", "created"),
            ("e", "manual"),
            ("f", "scheduled"),
        ] {
            let starts_in = (status == "scheduled").then_some(Duration::from_secs(90));
            progress.count(name, status, starts_in);
        }
        let line = progress.words(Duration::from_secs(42));
        assert_eq!(line, "2 running · 1 delayed (`f` in 1:30) · 3 of 7 done · 1 failed · 0:42  build, lint");
        assert_eq!(Progress::default().words(Duration::ZERO), "0 running · 0 of 0 done · 0:00");
    }

    #[test]
    fn only_the_first_names_are_told() {
        let running = (0..9).map(|number| format!("j{number}")).collect();
        let progress = Progress { running, all: 9, canceling: true, ..Progress::default() };
        let line = progress.words(Duration::ZERO);
        assert_eq!(line, "canceling · 9 running · 0 of 9 done · 0:00  j0, j1, j2, j3, j4, j5…");
    }
}
