//! Owns how a line of the helper's tools looks in the log (runner-behaviour.md §6.6).

use crate::agent::log::JobLog;

/// One line about caches or artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperLine {
    /// As it should be.
    Info(String),
    /// Not as asked, and the job goes on.
    Warning(String),
    /// It went wrong; whether the job goes on, others decide.
    Error(String),
}

/// Writes `line` as GitLab Runner's helper does: text up to column 50, reset, a blank.
pub fn say(log: &JobLog, line: &HelperLine) {
    let (colour, prefix, text) = match line {
        HelperLine::Info(text) => ("", "", text),
        HelperLine::Warning(text) => ("\x1b[0;33m", "WARNING: ", text),
        HelperLine::Error(text) => ("\x1b[31;1m", "ERROR: ", text),
    };
    log.line(&format!("{colour}{prefix}{text:<width$}\x1b[0;m ", width = 50 - prefix.len()));
}
