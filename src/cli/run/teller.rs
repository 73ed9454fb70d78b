//! Tells of one job: its log as it grows, on the screen and in a file, and how it ended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::clean::{Keep, clean, plain};
use crate::cli::screen::{Screen, Tone};
use crate::cli::trace_lines::{TraceLine, TraceLines};
use crate::cli::words::clock;
use crate::sandbox::gitlab::JobHandle;

use super::report::{is_over, seconds};

/// The colours of the jobs' names, in turn.
const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "96"];
/// A job's last lines are kept for the summary.
const TAIL: usize = 8;

/// What is told of one job.
pub(super) struct Teller {
    prefix: String,
    full_log: bool,
    lines: TraceLines,
    read: usize,
    status: String,
    log: File,
    /// Where the whole log lies.
    pub(super) path: PathBuf,
    /// The last lines that its scripts printed.
    pub(super) tail: VecDeque<String>,
}

impl Teller {
    /// For the job called `name`, the `place`th of all; names are as wide as `width`.
    pub(super) fn new(
        screen: Screen,
        full_log: bool,
        (name, place, width): (&str, usize, usize),
        path: &Path,
    ) -> anyhow::Result<Teller> {
        let log = File::create(path).with_context(|| format!("writing `{}`", path.display()))?;
        let padded = format!("{:<width$} |", plain(name));
        Ok(Teller {
            prefix: screen.colour(COLOURS[place % COLOURS.len()], &padded),
            full_log,
            lines: TraceLines::default(),
            read: 0,
            status: String::new(),
            log,
            path: path.to_owned(),
            tail: VecDeque::new(),
        })
    }

    /// What is new about `job`, as lines for the screen.
    pub(super) fn look(&mut self, screen: Screen, job: &JobHandle) -> Vec<String> {
        let status = job.status();
        if status == self.status && is_over(&status) {
            return Vec::new();
        }
        let mut told = Vec::new();
        if status == "running" && self.status != "running" {
            told.push(self.say(screen, Tone::Faint, "started"));
        }
        // After the status: when that says that the job is over, its trace is whole.
        let trace = job.trace();
        let mut lines = self.lines.read(&trace[self.read.min(trace.len())..]);
        self.read = trace.len();
        if is_over(&status) {
            lines.extend(self.lines.end());
        }
        for line in lines {
            self.keep(&line);
            if self.full_log || line.script || is_important(&line.text) {
                let keep = if screen.has_colours() { Keep::Colours } else { Keep::Nothing };
                told.push(format!("{} {}", self.prefix, clean(&line.text, keep)).trim_end().to_owned());
            }
        }
        if is_over(&status)
            && let Some((tone, words)) = ending(job, &status)
        {
            told.push(self.say(screen, tone, &words));
        }
        self.status = status;
        told
    }

    fn say(&self, screen: Screen, tone: Tone, text: &str) -> String {
        format!("{} {}", self.prefix, screen.paint(tone, text))
    }

    fn keep(&mut self, line: &TraceLine) {
        let text = plain(&line.text);
        // A log that cannot be written is no reason to stop the job.
        let _ = writeln!(self.log, "{text}");
        let text = text.trim_end();
        if (line.script || is_important(text)) && !text.is_empty() {
            self.tail.push_back(text.to_owned());
            if self.tail.len() > TAIL {
                self.tail.pop_front();
            }
        }
    }
}

/// Lines of ours that matter besides what a script prints.
fn is_important(line: &str) -> bool {
    let line = plain(line);
    line.starts_with("ERROR: ") || line.starts_with("WARNING: ")
}

fn ending(job: &JobHandle, status: &str) -> Option<(Tone, String)> {
    let time = clock(std::time::Duration::from_secs_f64(seconds(job)));
    match status {
        "success" => Some((Tone::Good, format!("passed in {time}"))),
        "failed" => Some((Tone::Bad, format!("failed in {time}"))),
        "canceled" if job.started_at().is_some() => Some((Tone::Warning, format!("canceled after {time}"))),
        _ => None,
    }
}
