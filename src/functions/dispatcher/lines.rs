//! Owns how our own lines stand in a job's trace: without its secrets, and every line has its time, or none
//! (runner-behaviour.md §2.6, §13, 17).

use jiff::Timestamp;

use crate::gitlab::masking::Masking;
use crate::gitlab::timestamps::timestamp_lines;
use crate::gitlab::{Job, job_variables};
use crate::ledger::Record;
use crate::plan::build_place;

use super::Dispatcher;

/// How the lines of one job are written, by its variables and its runner's settings: as the helper will write on.
pub(super) struct Lines {
    masking: Masking,
    timestamps: bool,
    /// The helper will tell each command: GitLab has to know with the first bytes.
    pub(super) debug: bool,
}

impl Dispatcher {
    /// How lines are written in the trace of `record`'s job.
    pub(super) fn lines(&self, record: &Record, job: &Job) -> Lines {
        let settings = match self.fleet.runner(&record.runner) {
            Some(runner) => self.fleet.settings_for(runner),
            // It left the fleet meanwhile.
            None => self.fleet.settings.clone(),
        };
        let variables = job_variables(job, &build_place(&settings, &record.short_token));
        let may_debug = !settings.debug_trace_disabled.unwrap_or_default();
        Lines {
            masking: Masking::of(job, &variables),
            timestamps: variables.flag("FF_TIMESTAMPS", true),
            debug: may_debug && variables.flag("CI_DEBUG_TRACE", false),
        }
    }
}

impl Lines {
    /// `text` without the job's secrets: names of images, say, can hold one.
    pub(super) fn masked(&self, text: &str) -> String {
        self.masking.text(text)
    }

    /// Whole lines, as they stand in the trace.
    pub(super) fn framed(&self, now: Timestamp, text: &str) -> String {
        let text = self.masked(text);
        if self.timestamps { timestamp_lines(now, &text) } else { text }
    }

    /// Spot capacity was refused.
    pub(super) fn no_spot(&self, reason: &str, now: Timestamp) -> String {
        self.line(now, &format!("No spot capacity now; taking on-demand capacity ({reason})"))
    }

    /// Capacity was refused.
    pub(super) fn no_room(&self, reason: &str, now: Timestamp) -> String {
        let next = "the next try is when a task ends, or within a minute";
        self.line(now, &format!("Waiting for Fargate capacity; {next} ({reason})"))
    }

    /// A launch was refused for another reason.
    pub(super) fn try_again(&self, reason: &str, now: Timestamp) -> String {
        self.line(now, &format!("AWS did not start the task; trying again ({reason})"))
    }

    /// The job waits behind others, with the words by which this line is found.
    pub(super) fn waits_behind(&self, now: Timestamp) -> (String, &'static str) {
        let mark = "Waiting for Fargate capacity";
        (
            self.line(now, &format!("{mark}: AWS has none for tasks of this size now, and older jobs are tried first")),
            mark,
        )
    }

    /// The job waits for the registration of its task definition, with the words by which this line is found.
    pub(super) fn definition(&self, now: Timestamp) -> (String, &'static str) {
        let mark = "Waiting to register a task definition";
        let why =
            "AWS takes one new combination of images a second, and other jobs with new images are before this one";
        (self.line(now, &format!("{mark}: {why}")), mark)
    }

    fn line(&self, now: Timestamp, text: &str) -> String {
        self.framed(now, &format!("\x1b[0K{text}\n"))
    }
}
