//! Owns the one error of the reader: where in the file, and what is wrong there.

use std::fmt;

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ReadError {
    /// The job it is in, if any.
    pub job: Option<String>,
    /// The line, counted from 1; 0 where no line is to blame.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl ReadError {
    pub(super) fn at(line: usize, what: impl Into<String>) -> Self {
        ReadError { job: None, line, what: what.into() }
    }

    pub(super) fn in_job(mut self, job: &str) -> Self {
        self.job.get_or_insert_with(|| job.to_owned());
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.job, self.line) {
            (Some(job), 0) => write!(f, "job `{job}`: {}", self.what),
            (Some(job), line) => write!(f, "job `{job}`, line {line}: {}", self.what),
            (None, 0) => write!(f, "{}", self.what),
            (None, line) => write!(f, "line {line}: {}", self.what),
        }
    }
}
