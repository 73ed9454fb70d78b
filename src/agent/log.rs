//! Writes the job's log: what a person reads, filtered and framed, into the trace.
//!
//! Each stream passes masks, URL parameters, token prefixes, UTF-8 and timestamps in this order (runner-behaviour.md
//! §2.7) and ends in one output. Writing never waits; memory is bounded by the output's limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

use crate::gitlab::Outcome;
use crate::gitlab::timestamps::{JOB_STREAM, RUNNER_STREAM, Timestamper};

use super::mask::Masker;
use super::output::{OUTPUT_LIMIT, Output};
use super::redact::Redactor;
use super::section::Section;
use super::tokens::token_redactor;
use super::urls::url_redactor;
use super::utf8::Utf8;

/// Who wrote a line (runner-behaviour.md §2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// We did.
    Runner,
    /// The job's scripts did.
    Job,
}

/// How a job's log is written.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    /// Values that must not show.
    pub masked: Vec<String>,
    /// Mask tokens with all of GitLab's prefixes (`FF_MASK_ALL_DEFAULT_TOKENS`), not `glpat-` alone.
    pub all_token_prefixes: bool,
    /// More prefixes of tokens, from the server.
    pub token_prefixes: Vec<String>,
    /// The server folds sections.
    pub sections: bool,
    /// Frame each line with its time (`FF_TIMESTAMPS`).
    pub timestamps: bool,
    /// What the trace begins with: somebody else's lines, as they were sent.
    pub begun: Vec<u8>,
    /// How many bytes it may have; the default of GitLab Runner without it.
    pub limit: Option<usize>,
}

/// The job's log; clones write to the same.
#[derive(Clone)]
pub struct JobLog {
    shared: Arc<Mutex<Shared>>,
    sections: bool,
}

struct Shared {
    runner: Filters,
    job: Filters,
    output: Output,
    masked: Vec<String>,
}

impl Default for JobLog {
    fn default() -> Self {
        JobLog::new(LogSettings::default())
    }
}

impl JobLog {
    /// An empty log, or one that goes on.
    pub fn new(settings: LogSettings) -> Self {
        let sections = settings.sections;
        let (runner, job) = (Filters::new(&settings, RUNNER_STREAM), Filters::new(&settings, JOB_STREAM));
        let masked = settings.masked.clone();
        let output = Output::new(settings.begun, settings.limit.unwrap_or(OUTPUT_LIMIT), settings.timestamps);
        JobLog { shared: Arc::new(Mutex::new(Shared { runner, job, output, masked })), sections }
    }

    /// Masks these values, too, from here on; only between two lines.
    pub fn mask(&self, values: impl IntoIterator<Item = String>) {
        let mut shared = self.shared();
        let Shared { runner, job, output, masked } = &mut *shared;
        masked.extend(values.into_iter().filter(|value| !value.is_empty()));
        for filters in [runner, job] {
            output.append(&filters.finish());
            filters.masker = Masker::new(masked);
        }
    }

    /// Writes bytes as they are, before masking and framing.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut shared = self.shared();
        let Shared { runner, job, output, .. } = &mut *shared;
        let filters = match stream {
            Stream::Runner => runner,
            Stream::Job => job,
        };
        if !output.is_full() {
            output.append(&filters.write(bytes));
        }
    }

    /// A plain line of ours.
    pub fn line(&self, text: &str) {
        self.write(Stream::Runner, format!("{text}\n").as_bytes());
    }

    /// A green line, as GitLab Runner's shells write notices.
    pub fn notice(&self, text: &str) {
        self.line(&format!("\x1b[32;1m{text}\x1b[0;m"));
    }

    /// A yellow line: something is not as asked, and the job goes on.
    pub fn warning(&self, text: &str) {
        self.line(&format!("\x1b[0;33m{text}\x1b[0;m"));
    }

    /// A red line.
    pub fn error(&self, text: &str) {
        self.line(&format!("\x1b[31;1m{text}\x1b[0;m"));
    }

    /// A yellow line with the word `WARNING`, as GitLab Runner itself writes them (runner-behaviour.md §2.1).
    pub fn runner_warning(&self, text: &str) {
        self.line(&format!("\x1b[0K\x1b[0;33mWARNING: {text}\x1b[0;m"));
    }

    /// Begins a section with its headline; it ends when the value goes.
    pub fn section(&self, name: &'static str, headline: &str) -> Section {
        self.named_section(name.to_owned(), headline)
    }

    /// The same for a name that is made at run time.
    pub fn named_section(&self, name: String, headline: &str) -> Section {
        Section::begin(self.clone(), name, headline, self.sections)
    }

    /// Ends what the scripts write for now: a line that is not complete is complete.
    pub fn end_of_script(&self) {
        let mut shared = self.shared();
        let Shared { job, output, .. } = &mut *shared;
        output.append(&job.finish());
    }

    /// Ends the log with the job's last line; it has to be its last use.
    pub fn end(&self, outcome: &Outcome) {
        self.end_of_script();
        let mut shared = self.shared();
        let Shared { runner, output, .. } = &mut *shared;
        output.append(&runner.finish());
        let last = runner.masked(outcome.last_line().as_bytes());
        output.append_last(&String::from_utf8_lossy(&last));
    }

    /// The trace as far as it is written.
    pub fn contents(&self) -> Bytes {
        self.shared().output.piece(0, usize::MAX)
    }

    /// How many bytes the trace has.
    pub fn len(&self) -> u64 {
        self.shared().output.len() as u64
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `longest` bytes of the trace from `offset` on.
    pub fn piece(&self, offset: u64, longest: usize) -> Bytes {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.shared().output.piece(offset, longest)
    }

    /// The CRC-32 and the size of the trace.
    pub fn checksum(&self) -> (u32, u64) {
        let shared = self.shared();
        (shared.output.crc32(), shared.output.len() as u64)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the bytes of one stream pass.
struct Filters {
    masker: Masker,
    urls: Redactor,
    tokens: Redactor,
    utf8: Utf8,
    timestamper: Option<Timestamper>,
}

impl Filters {
    fn new(settings: &LogSettings, stream: u8) -> Self {
        Filters {
            masker: Masker::new(&settings.masked),
            urls: url_redactor(),
            tokens: token_redactor(settings.all_token_prefixes, &settings.token_prefixes),
            utf8: Utf8::default(),
            timestamper: settings.timestamps.then(|| Timestamper::new(stream)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut masked = Vec::with_capacity(bytes.len() + 64);
        self.masker.write(bytes, &mut masked);
        let text = self.redacted(&masked);
        self.framed(text)
    }

    /// Ends all of them; the next bytes begin anew.
    fn finish(&mut self) -> Vec<u8> {
        let mut masked = Vec::new();
        self.masker.finish(&mut masked);
        let mut text = self.redacted(&masked);
        self.urls.finish();
        self.tokens.finish();
        self.utf8.finish(&mut text);
        let mut out = self.framed(text);
        if let Some(timestamper) = &mut self.timestamper {
            timestamper.finish(&mut out);
        }
        out
    }

    /// `text` without its secrets, unframed; for a stream that is at its end.
    fn masked(&mut self, text: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        self.masker.write(text, &mut masked);
        self.masker.finish(&mut masked);
        self.redacted(&masked)
    }

    fn redacted(&mut self, masked: &[u8]) -> Vec<u8> {
        let (mut scrubbed, mut sanitized, mut text) = (Vec::new(), Vec::new(), Vec::new());
        self.urls.write(masked, &mut scrubbed);
        self.tokens.write(&scrubbed, &mut sanitized);
        self.utf8.write(&sanitized, &mut text);
        text
    }

    fn framed(&mut self, text: Vec<u8>) -> Vec<u8> {
        match &mut self.timestamper {
            None => text,
            Some(timestamper) => {
                let mut out = Vec::with_capacity(text.len() + 64);
                timestamper.write(Timestamp::now(), &text, &mut out);
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::FailureReason;

    fn text(log: &JobLog) -> String {
        String::from_utf8(log.contents().to_vec()).unwrap()
    }

    #[test]
    fn our_lines_and_the_scripts_are_masked_alike() {
        let log = JobLog::new(LogSettings { masked: vec!["hunter2".into()], ..LogSettings::default() });
        log.warning("hunter2 is gone");
        log.write(Stream::Job, b"hunt");
        log.line("between");
        log.write(Stream::Job, b"er2 glpat-123 ?private_token=1\n");
        log.end(&Outcome::failed(FailureReason::ScriptFailure, "no hunter2"));
        assert_eq!(
            text(&log),
            "\x1b[0;33m[MASKED] is gone\x1b[0;m\nbetween\n[MASKED] glpat-[MASKED] ?private_token=[MASKED]\n\
             \x1b[0K\x1b[31;1mERROR: Job failed: no [MASKED]\x1b[0;m\n"
        );
    }

    #[test]
    fn a_value_that_is_learned_later_is_masked_from_then_on() {
        let log = JobLog::new(LogSettings { masked: vec!["first".into()], ..LogSettings::default() });
        log.line("first second");
        log.mask(["second".to_owned(), String::new()]);
        log.line("first second");
        log.write(Stream::Job, b"sec");
        log.write(Stream::Job, b"ond\n");
        assert_eq!(text(&log), "[MASKED] second\n[MASKED] [MASKED]\n[MASKED]\n");
    }

    #[test]
    fn with_timestamps_every_line_has_one() {
        let log = JobLog::new(LogSettings { timestamps: true, sections: true, ..LogSettings::default() });
        {
            let _section = log.section("step_script", "Executing");
            log.write(Stream::Job, b"half a ");
            log.line("ours");
            log.write(Stream::Job, b"line");
            log.end_of_script();
        }
        log.end(&Outcome::Success);

        let lines: Vec<String> = text(&log).lines().map(|line| line[28..].to_owned()).collect();
        let shape: Vec<&str> = lines.iter().map(|line| &line[..4]).collect();
        assert_eq!(shape, ["00O ", "00O+", "00O ", "01O ", "00O ", "00O+", "00O "], "{lines:?}");
        assert_eq!(lines[3], "01O half a line");
        assert!(lines[0].contains("section_start:") && lines[4].contains("section_end:"), "{lines:?}");
    }

    #[test]
    fn a_line_of_four_megabytes_ends_with_the_notice() {
        let log = JobLog::new(LogSettings { masked: vec!["xx".into()], timestamps: true, ..LogSettings::default() });
        for _ in 0..80 {
            log.write(Stream::Job, &[b'y'; 64 << 10]);
        }
        log.end(&Outcome::Success);
        let text = text(&log);
        assert!(text.len() < (4 << 20) + 1000);
        assert!(text.contains("exceeded limit of 4194304 bytes") && text.contains("Job succeeded"));
    }

    #[test]
    fn a_log_goes_on_behind_what_was_there() {
        let log = JobLog::new(LogSettings { begun: b"before\n".to_vec(), ..LogSettings::default() });
        log.line("behind");
        assert_eq!(text(&log), "before\nbehind\n");
        assert_eq!(&log.piece(7, 3)[..], b"beh");
        assert_eq!(log.checksum(), (crc32fast::hash(b"before\nbehind\n"), 14));
    }
}
