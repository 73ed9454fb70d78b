//! Owns the sections of the log, which GitLab folds (runner-behaviour.md §2.2).

use std::time::Instant;

use jiff::Timestamp;

use super::log::{JobLog, Stream};

/// A section under way.
#[must_use = "it ends when it is dropped"]
pub struct Section {
    log: JobLog,
    name: String,
    marked: bool,
    began: Instant,
}

impl Section {
    pub(super) fn begin(log: JobLog, name: String, options: &str, headline: &str, marked: bool) -> Self {
        let section = Section { log, name, marked, began: Instant::now() };
        section.mark("section_start", options);
        section.log.runner_line(&format!("\x1b[36;1m{headline}\x1b[0;m"));
        section
    }

    fn mark(&self, what: &str, options: &str) {
        if self.marked {
            let text = format!("{what}:{}:{}{options}\r\x1b[0K", Timestamp::now().as_second(), self.name);
            self.log.write(Stream::Runner, text.as_bytes());
        }
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        self.log.end_of_stage();
        self.mark("section_end", "");
        self.log.add_section_time(&self.name, self.began.elapsed());
    }
}
