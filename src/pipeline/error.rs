//! Owns the one error of the reader: where in the file, and what is wrong there.

use std::fmt;

/// Why a file was not read, or why no pipeline comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ReadError {
    /// The included file that it is in; nothing for the configuration itself.
    pub file: Option<String>,
    /// The job it is in, if any.
    pub job: Option<String>,
    /// The line, counted from 1; 0 where no line is to blame.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl ReadError {
    pub(super) fn at(line: usize, what: impl Into<String>) -> Self {
        ReadError { line, what: what.into(), ..ReadError::default() }
    }

    pub(super) fn in_job(mut self, job: &str) -> Self {
        self.job.get_or_insert_with(|| job.to_owned());
        self
    }

    pub(super) fn in_file(mut self, file: Option<&str>) -> Self {
        self.file = self.file.or_else(|| file.map(str::to_owned));
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_ref().map(|file| format!("`{file}`"));
        let job = self.job.as_ref().map(|job| format!("job `{job}`"));
        let line = (self.line > 0).then(|| format!("line {}", self.line));
        let place: Vec<String> = [file, job, line].into_iter().flatten().collect();
        match place.is_empty() {
            true => write!(f, "{}", self.what),
            false => write!(f, "{}: {}", place.join(", "), self.what),
        }
    }
}
