//! Owns how long the parts of a job may take (runner-behaviour.md §1.4).

use std::time::Duration;

use crate::gitlab::Variables;

use super::context::Context;
use super::durations::{GoDuration, parse_duration};

/// How long `after_script` may take unless the job says otherwise.
const AFTER_SCRIPT: Duration = Duration::from_secs(5 * 60);

/// The limits of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// The job as a whole.
    pub job: Duration,
    /// `RUNNER_SCRIPT_TIMEOUT`.
    pub script: Option<Duration>,
    /// `RUNNER_AFTER_SCRIPT_TIMEOUT`.
    pub after_script: Duration,
}

impl Timeouts {
    /// Reads the job's wishes; the second value is what to warn of.
    pub(super) fn read(job: Duration, variables: &Variables) -> (Timeouts, Vec<String>) {
        let mut warnings = Vec::new();
        let mut wish = |name: &str| {
            let text = variables.get(name).filter(|text| !text.is_empty())?;
            match parse_duration(text) {
                None => {
                    warnings.push(format!("Ignoring malformed {name} timeout: {text}"));
                    None
                }
                Some(GoDuration::Negative) => {
                    warnings.push(format!("Ignoring relative {name} timeout: {text}"));
                    None
                }
                Some(GoDuration::Of(Duration::ZERO)) => None,
                Some(GoDuration::Of(wish)) if wish > job => {
                    warnings.push(format!("{name} timeout: {text} is longer than job timeout."));
                    Some(job)
                }
                Some(GoDuration::Of(wish)) => Some(wish),
            }
        };
        let script = wish("RUNNER_SCRIPT_TIMEOUT");
        let after_script = wish("RUNNER_AFTER_SCRIPT_TIMEOUT").unwrap_or(AFTER_SCRIPT);
        (Timeouts { job, script, after_script }, warnings)
    }

    /// How long getting the sources may take by the runner's `setting`; what is none is the job's timeout.
    pub(super) fn get_sources(&self, setting: Option<&str>) -> Duration {
        match setting.and_then(parse_duration) {
            Some(GoDuration::Of(most)) if !most.is_zero() && most < self.job => most,
            _ => self.job,
        }
    }
}

/// Tells that time ran out while `stage` ran, in GitLab Runner's words.
pub(super) fn warn_of_timeout(context: &Context, stage: &str) {
    context.log.runner_warning(&format!(
        "{stage} could not run to completion because the timeout was exceeded. For more control over job and script \
         timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::Variable;

    #[test]
    fn the_sources_have_the_runners_time_or_the_jobs() {
        let (timeouts, _) = Timeouts::read(Duration::from_secs(3600), &Variables::default());
        for (setting, seconds) in [
            (None, 3600),
            (Some("10m"), 600),
            (Some("0"), 3600),
            (Some("-1m"), 3600),
            (Some("2h"), 3600),
            (Some("x"), 3600),
        ] {
            assert_eq!(timeouts.get_sources(setting), Duration::from_secs(seconds), "{setting:?}");
        }
    }

    #[test]
    fn wishes_are_taken_as_gitlab_runner_takes_them() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (script, after_script, expected, warning) in [
            ("", "", (None, minutes(5)), None),
            ("10m", "1m", (Some(minutes(10)), minutes(1)), None),
            ("${TEN}m", "", (Some(minutes(10)), minutes(5)), None),
            ("0", "0", (None, minutes(5)), None),
            ("-1m", "", (None, minutes(5)), Some("Ignoring relative RUNNER_SCRIPT_TIMEOUT timeout: -1m")),
            ("", "soon", (None, minutes(5)), Some("Ignoring malformed RUNNER_AFTER_SCRIPT_TIMEOUT timeout: soon")),
            (
                "2h",
                "",
                (Some(minutes(60)), minutes(5)),
                Some("RUNNER_SCRIPT_TIMEOUT timeout: 2h is longer than job timeout."),
            ),
        ] {
            let variables =
                [("RUNNER_SCRIPT_TIMEOUT", script), ("RUNNER_AFTER_SCRIPT_TIMEOUT", after_script), ("TEN", "10")];
            let variable = |(key, value)| Variable { raw: false, ..Variable::public(key, value) };
            let variables = variables.into_iter().map(variable).collect::<Variables>().expanded();
            let (timeouts, warnings) = Timeouts::read(minutes(60), &variables);
            assert_eq!((timeouts.script, timeouts.after_script), expected);
            assert_eq!(warnings.first().map(String::as_str), warning);
        }
    }
}
