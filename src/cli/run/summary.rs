//! Writes what came of a run for people.

use std::path::Path;
use std::time::Duration;

use crate::cli::clean::plain;
use crate::cli::screen::{Screen, Tone};
use crate::cli::words::{Table, clock, dollars, many};

use super::report::{JobReport, RunReport};

/// Writes the summary of `report`.
pub(super) fn show(report: &RunReport, screen: Screen) {
    screen.line(Tone::Plain, "");
    table(report).show(screen);
    if report.dollars().is_some() {
        let region = plain(&report.region);
        let note = format!("  * what Fargate asks for such tasks in {region} on demand, a minute at least for each");
        screen.line(Tone::Faint, &note);
    }
    for job in report.jobs.iter().filter(|job| job.status == "failed") {
        show_failure(job, screen);
    }
    let waiting: Vec<&JobReport> = report.jobs.iter().filter(|job| job.status == "manual").collect();
    if !waiting.is_empty() {
        screen.line(Tone::Plain, "");
    }
    for job in waiting {
        let name = plain(&job.name);
        screen.line(Tone::Plain, &format!("manual: `mayfly run {}` starts it", quoted(&name)));
    }
    screen.line(Tone::Plain, "");
    if report.jobs.iter().any(|job| job.artifacts.is_some()) {
        screen.line(Tone::Plain, &format!("artifacts  {}", shown(&report.artifacts)));
    }
    screen.line(Tone::Plain, &format!("logs       {}", shown(&report.logs)));
    let (tone, line) = verdict(report);
    screen.line(tone, &line);
}

fn table(report: &RunReport) -> Table {
    let mut table = Table::new(&["job", "stage", "status", "time", "size", "price*", "cache"]);
    for job in &report.jobs {
        let tone = match job.status.as_str() {
            "failed" if job.may_fail => Tone::Warning,
            "failed" => Tone::Bad,
            "success" => Tone::Plain,
            _ => Tone::Faint,
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(
            tone,
            vec![
                job.name.clone(),
                job.stage.clone(),
                word(job),
                or_dash(job.seconds.map(|seconds| clock(Duration::from_secs_f64(seconds)))),
                or_dash(job.plan.as_ref().map(|plan| plan.size.to_string())),
                or_dash(job.dollars.map(dollars)),
                or_dash(job.cache_hit.map(|hit| if hit { "hit" } else { "miss" }.to_owned())),
            ],
        );
    }
    table
}

/// A job's status in a person's words.
fn word(job: &JobReport) -> String {
    match job.status.as_str() {
        "success" => "passed".to_owned(),
        "failed" if job.may_fail => "failed (allowed)".to_owned(),
        "created" => "blocked".to_owned(),
        other => other.to_owned(),
    }
}

fn show_failure(job: &JobReport, screen: Screen) {
    screen.line(Tone::Plain, "");
    let reason = job.failure_reason.clone().unwrap_or_default();
    let code = job.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let tone = if job.may_fail { Tone::Warning } else { Tone::Bad };
    screen.line(tone, &plain(&format!("`{}` failed: {reason}{code}", job.name)));
    for line in &job.tail {
        screen.line(Tone::Faint, &format!("  {line}"));
    }
    if let Some(log) = &job.log {
        screen.line(Tone::Plain, &format!("  {}", shown(log)));
    }
}

fn verdict(report: &RunReport) -> (Tone, String) {
    let (tone, word) = match report.status.as_str() {
        _ if report.canceled => (Tone::Warning, "canceled"),
        "canceled" | "canceling" => (Tone::Warning, "canceled"),
        _ if !report.passed() => (Tone::Bad, "failed"),
        "manual" => (Tone::Good, "passed so far; it waits for a manual job"),
        _ if report.jobs.iter().any(|job| job.status == "failed") => (Tone::Good, "passed with warnings"),
        _ => (Tone::Good, "passed"),
    };
    let time = clock(Duration::from_secs_f64(report.seconds));
    let ran = report.jobs.iter().filter(|job| job.seconds.is_some()).count();
    let price = report.dollars().map(|sum| format!(", {} on Fargate*", dollars(sum))).unwrap_or_default();
    let jobs = match report.jobs.iter().filter(|job| job.is_failure()).count() {
        0 => many(ran, "job"),
        failed => format!("{failed} of {}", many(ran, "job")),
    };
    (tone, format!("{word}: {jobs} in {time}{price}"))
}

fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// A job's name as an argument in a shell.
fn quoted(name: &str) -> String {
    let simple = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/@+=".contains(c));
    if simple { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: &str, jobs: &[(&str, &str, bool)]) -> RunReport {
        let job = |(name, status, may_fail): &(&str, &str, bool)| JobReport {
            name: (*name).into(),
            status: (*status).into(),
            may_fail: *may_fail,
            seconds: (*status != "manual").then_some(1.0),
            ..JobReport::default()
        };
        RunReport {
            status: status.into(),
            canceled: false,
            event: String::new(),
            commit: String::new(),
            region: String::new(),
            seconds: 61.0,
            jobs: jobs.iter().map(job).collect(),
            artifacts: "/a".into(),
            logs: "/l".into(),
            cache: "/c".into(),
        }
    }

    #[test]
    fn the_last_line_says_what_came_of_it() {
        for (status, jobs, passed, words) in [
            (
                "success",
                &[("a", "success", false), ("b", "failed", true)][..],
                true,
                "passed with warnings: 2 jobs in 1:01",
            ),
            ("success", &[("a", "success", false)], true, "passed: 1 job in 1:01"),
            ("failed", &[("a", "failed", false)], false, "failed: 1 of 1 job in 1:01"),
            ("canceled", &[("a", "canceled", false)], false, "canceled: 1 job in 1:01"),
            ("manual", &[("a", "manual", false)], true, "passed so far; it waits for a manual job: 0 jobs in 1:01"),
            ("manual", &[("a", "failed", false), ("b", "manual", false)], false, "failed: 1 of 1 job in 1:01"),
        ] {
            let report = report(status, jobs);
            assert_eq!((report.passed(), verdict(&report).1.as_str()), (passed, words), "{status}");
        }
    }

    #[test]
    fn a_name_can_be_pasted_into_a_shell() {
        assert_eq!(["deploy:prod", "unit 1/2", "it's"].map(quoted), ["deploy:prod", "'unit 1/2'", r"'it'\''s'"]);
    }
}
