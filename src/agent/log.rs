//! Writes the job's log: what a person reads, filtered and framed, into the trace.
//!
//! Each stream passes masks, URL parameters, token prefixes, UTF-8 and timestamps in this order (runner-behaviour.md
//! §2.7) and ends in one output. Writing never waits; memory is bounded by the output's limit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::gitlab::Outcome;
use crate::gitlab::masking::{Filter, Masking};
use crate::gitlab::timestamps::{JOB_STREAM, RUNNER_STREAM, SERVICE_STREAMS, Timestamper};

use super::output::{OUTPUT_LIMIT, Output};
use super::section::Section;
use super::utf8::Utf8;

/// Who wrote a line (runner-behaviour.md §2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// We did, about the job: sections, warnings, its end.
    Runner,
    /// A stage did: the job's scripts, git, and we in the place of GitLab Runner's helper.
    Job,
    /// The service of this number did, counted from 0.
    Service(u8),
}

/// How a job's log is written.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    /// What must not show.
    pub masking: Masking,
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
    /// Made when a service first says something.
    services: BTreeMap<u8, Filters>,
    settings: LogSettings,
    output: Output,
    /// How long each section took.
    sections: Vec<(String, Duration)>,
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
        let begun = settings.begun.clone();
        let settings = LogSettings { begun: Vec::new(), ..settings };
        let output = Output::new(begun, settings.limit.unwrap_or(OUTPUT_LIMIT), settings.timestamps);
        let shared = Shared { runner, job, services: BTreeMap::new(), settings, output, sections: Vec::new() };
        JobLog { shared: Arc::new(Mutex::new(shared)), sections }
    }

    /// Masks these values, too, from here on; only between two lines.
    pub fn mask(&self, values: impl IntoIterator<Item = String>) {
        let mut shared = self.shared();
        let Shared { runner, job, services, settings, output, .. } = &mut *shared;
        settings.masking.values.extend(values.into_iter().filter(|value| !value.is_empty()));
        for filters in [runner, job].into_iter().chain(services.values_mut()) {
            output.append(&filters.finish());
            filters.secrets = settings.masking.filter();
        }
    }

    /// Writes bytes as they are, before masking and framing.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut shared = self.shared();
        let Shared { runner, job, services, settings, output, .. } = &mut *shared;
        let filters = match stream {
            Stream::Runner => runner,
            Stream::Job => job,
            Stream::Service(number) => {
                services.entry(number).or_insert_with(|| Filters::new(settings, SERVICE_STREAMS.saturating_add(number)))
            }
        };
        if !output.is_full() {
            output.append(&filters.write(bytes));
        }
    }

    /// A plain line of a stage.
    pub fn line(&self, text: &str) {
        self.write(Stream::Job, format!("{text}\n").as_bytes());
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
        self.runner_line(&format!("\x1b[0;33mWARNING: {text}\x1b[0;m"));
    }

    /// A green line, as GitLab Runner itself writes them.
    pub fn runner_info(&self, text: &str) {
        self.runner_line(&format!("\x1b[32;1m{text}\x1b[0;m"));
    }

    /// A line about the job, with its colours.
    pub(super) fn runner_line(&self, text: &str) {
        self.write(Stream::Runner, format!("\x1b[0K{text}\n").as_bytes());
    }

    /// Begins a section with its headline; it ends when the value goes.
    pub fn section(&self, name: &'static str, headline: &str) -> Section {
        self.named_section(name.to_owned(), headline)
    }

    /// The same for a name that is made at run time.
    pub fn named_section(&self, name: String, headline: &str) -> Section {
        Section::begin(self.clone(), name, "", headline, self.sections)
    }

    /// A section that GitLab shows folded.
    pub fn folded_section(&self, name: &str, headline: &str) -> Section {
        let options = "[hide_duration=true,collapsed=true]";
        Section::begin(self.clone(), name.to_owned(), options, headline, self.sections)
    }

    /// Whether the server folds sections.
    pub fn has_sections(&self) -> bool {
        self.sections
    }

    /// Adds to the time of a section; one that is tried again counts as a whole.
    pub(super) fn add_section_time(&self, name: &str, span: Duration) {
        let mut shared = self.shared();
        match shared.sections.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => *sum += span,
            None => shared.sections.push((name.to_owned(), span)),
        }
    }

    /// How long each section took, in the order of their first ends.
    pub(super) fn section_times(&self) -> Vec<(String, Duration)> {
        self.shared().sections.clone()
    }

    /// Ends what a stage writes for now: a line that is not complete is complete.
    pub fn end_of_stage(&self) {
        let mut shared = self.shared();
        let Shared { job, output, .. } = &mut *shared;
        output.append(&job.finish());
    }

    /// Ends the log with the job's last line; it has to be its last use.
    pub fn end(&self, outcome: &Outcome) {
        self.end_of_stage();
        let mut shared = self.shared();
        let Shared { runner, output, .. } = &mut *shared;
        let last = outcome.last_line();
        let text = [runner.write(last.as_bytes()), runner.finish()].concat();
        let fits = output.append(&text);
        if !fits {
            output.append_last(&runner.masked(&last));
        }
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
    secrets: Filter,
    utf8: Utf8,
    timestamper: Option<Timestamper>,
}

impl Filters {
    fn new(settings: &LogSettings, stream: u8) -> Self {
        Filters {
            secrets: settings.masking.filter(),
            utf8: Utf8::default(),
            timestamper: settings.timestamps.then(|| Timestamper::new(stream)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut shown, mut text) = (Vec::with_capacity(bytes.len() + 64), Vec::new());
        self.secrets.write(bytes, &mut shown);
        self.utf8.write(&shown, &mut text);
        self.framed(text)
    }

    /// Ends all of them; the next bytes begin anew.
    fn finish(&mut self) -> Vec<u8> {
        let (mut shown, mut text) = (Vec::new(), Vec::new());
        self.secrets.finish(&mut shown);
        self.utf8.write(&shown, &mut text);
        self.utf8.finish(&mut text);
        let mut out = self.framed(text);
        if let Some(timestamper) = &mut self.timestamper {
            timestamper.finish(&mut out);
        }
        out
    }

    /// `text` without its secrets, unframed; for a stream that is at its end.
    fn masked(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        self.secrets.write(text.as_bytes(), &mut shown);
        self.secrets.finish(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
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

    fn hides(value: &str) -> Masking {
        Masking { values: vec![value.to_owned()], ..Masking::default() }
    }

    #[test]
    fn our_lines_and_the_scripts_are_masked_alike() {
        let log = JobLog::new(LogSettings { masking: hides("hunter2"), ..LogSettings::default() });
        log.warning("hunter2 is gone");
        log.write(Stream::Job, b"hunt");
        log.write(Stream::Runner, b"between\n");
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
        let masking = Masking { values: vec!["first".into()], ..Masking::default() };
        let log = JobLog::new(LogSettings { masking, ..LogSettings::default() });
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
            log.write(Stream::Runner, b"ours\n");
            log.write(Stream::Job, b"line");
        }
        log.end(&Outcome::Success);

        let lines: Vec<String> = text(&log).lines().map(|line| line[28..].to_owned()).collect();
        let shape: Vec<&str> = lines.iter().map(|line| &line[..4]).collect();
        assert_eq!(shape, ["00O ", "00O+", "00O ", "01O ", "00O ", "00O+"], "{lines:?}");
        assert_eq!(lines[3], "01O half a line");
        assert!(lines[0].contains("section_start:") && lines[4].contains("section_end:"), "{lines:?}");
    }

    /// Writes `text` cut at `cuts` and returns all that GitLab would ever have.
    fn logged(stream: Stream, timestamps: bool, text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let masking = Masking {
            values: vec!["hunter2 is\nlong".into(), "hunter2".into(), "s\u{e9}cret".into()],
            all_token_prefixes: true,
            token_prefixes: vec!["acme-".into()],
        };
        let log = JobLog::new(LogSettings { masking, timestamps, ..LogSettings::default() });
        let mut at = 0;
        for cut in cuts.iter().chain([&text.len()]) {
            log.write(stream, &text[at..*cut]);
            at = *cut;
        }
        log.end(&Outcome::Success);
        log.contents().to_vec()
    }

    /// What a person reads of a framed trace: frames taken off, continued lines joined.
    fn read(trace: &[u8], timestamps: bool) -> Vec<u8> {
        if !timestamps {
            return trace.to_vec();
        }
        let mut text = Vec::new();
        for line in trace.split_inclusive(|byte| *byte == b'\n') {
            if line[31] == b'+' {
                assert_eq!(text.pop(), Some(b'\n'));
            }
            text.extend_from_slice(&line[32..]);
        }
        text
    }

    #[test]
    fn no_secret_shows_wherever_writes_are_cut() {
        let text = "a hunter2 b hunter2 is\nlong s\u{e9}cret\r50%\rglpat-12.x_y acme-34 \
                    http://h/?Private_Token=ab%20&X-Amz-Signature=cd \u{20ac}\n";
        let bytes = [text.as_bytes(), b"\xff\xe2\x82 \xc3 end"].concat();
        let shown = "a [MASKED] b [MASKED] [MASKED]\r50%\rglpat-[MASKED] acme-[MASKED] \
                     http://h/?Private_Token=[MASKED]&X-Amz-Signature=[MASKED] \u{20ac}\n\u{fffd}\u{fffd} \u{fffd} end";
        let end = "\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n";
        for stream in [Stream::Runner, Stream::Job] {
            for timestamps in [false, true] {
                // The scripts' last line gets its end before ours begins, where lines are framed.
                let between = if stream == Stream::Job && timestamps { "\n" } else { "" };
                let expected = format!("{shown}{between}{end}");
                let check = |cuts: &[usize]| {
                    let trace = logged(stream, timestamps, &bytes, cuts);
                    let read = String::from_utf8(read(&trace, timestamps)).expect("a trace is text");
                    assert_eq!(read, expected, "{stream:?}, timestamps {timestamps}, cut at {cuts:?}");
                };
                for first in 0..=bytes.len() {
                    check(&[first]);
                    // Neighbours and far ones: any secret is cut twice, too.
                    [1, 2, 5, 40].iter().for_each(|far| check(&[first, (first + far).min(bytes.len())]));
                }
                check(&(0..bytes.len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_is_counted() {
        let log = JobLog::new(LogSettings { masking: hides("xx"), timestamps: true, ..LogSettings::default() });
        for piece in [&b"a x"[..], b"x\xc3", b"\xa9 b\r", &[b'y'; 5 << 20], b"more"] {
            log.write(Stream::Job, piece);
            let (crc32, size) = log.checksum();
            let sent = log.piece(0, usize::MAX);
            assert_eq!((crc32, size), (crc32fast::hash(&sent), sent.len() as u64));
        }
        log.end(&Outcome::Success);
        let sent = [log.piece(0, 1 << 20), log.piece(1 << 20, usize::MAX)].concat();
        assert_eq!(log.checksum(), (crc32fast::hash(&sent), sent.len() as u64));
    }

    #[test]
    fn a_line_of_four_megabytes_ends_with_the_notice() {
        let log = JobLog::new(LogSettings { masking: hides("xx"), timestamps: true, ..LogSettings::default() });
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
