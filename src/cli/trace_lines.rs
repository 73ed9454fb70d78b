//! Makes lines for people of a trace as it grows: without times, section marks and what a carriage return wiped out.

use std::sync::LazyLock;

use regex::Regex;

/// `section_start:<seconds>:<name>[<options>]`, CR and "erase to the end of the line", as GitLab finds them.
static MARK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"section_(start|end):[0-9]+:([A-Za-z0-9_.-]+)(?:\[[^\]\r\n]*\])?\r\x1b\[0K").expect("it is a pattern")
});
/// The time, the stream and the mark in front of a line (runner-behaviour.md §2.6).
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z [0-9a-f]{2}[OE]([ +])").expect("it is a pattern")
});
/// The sections that hold what the job's author wrote.
const SCRIPTS: [&str; 2] = ["step_", "after_script"];
/// A line that goes on and on is shown in pieces.
const LONGEST_KEPT: usize = 64 << 10;

/// A line of a trace; what steers terminals is still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceLine {
    /// Without its line feed.
    pub(super) text: String,
    /// Whether a script of the job printed it.
    pub(super) script: bool,
}

/// Reads one trace from its beginning, piece by piece.
#[derive(Debug, Default)]
pub(super) struct TraceLines {
    unfinished: Vec<u8>,
    /// A line that the next one may continue.
    held: Option<String>,
    script: bool,
    runner_section: Option<String>,
}

impl TraceLines {
    /// The lines that `bytes` completes.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<TraceLine> {
        let mut lines = Vec::new();
        self.unfinished.extend_from_slice(bytes);
        let unfinished = std::mem::take(&mut self.unfinished);
        let mut rest = unfinished.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.physical(&rest[..at], &mut lines);
            rest = &rest[at + 1..];
        }
        self.unfinished = rest.to_vec();
        lines
    }

    /// What is left when the trace has ended.
    pub(super) fn end(&mut self) -> Vec<TraceLine> {
        let mut lines = Vec::new();
        let unfinished = std::mem::take(&mut self.unfinished);
        if !unfinished.is_empty() {
            self.physical(&unfinished, &mut lines);
        }
        self.release(&mut lines);
        lines
    }

    fn physical(&mut self, line: &[u8], lines: &mut Vec<TraceLine>) {
        let line = String::from_utf8_lossy(line);
        let (text, goes_on) = match FRAME.captures(&line) {
            Some(frame) => (&line[frame[0].len()..], &frame[1] == "+"),
            None => (line.as_ref(), false),
        };
        match &mut self.held {
            Some(held) if goes_on => held.push_str(text),
            _ => {
                self.release(lines);
                self.held = Some(text.to_owned());
            }
        }
        // Only behind a CR, or when a line is very long, can the next piece belong to this line.
        let may_go_on = |held: &String| held.contains('\r') || text.len() >= 8 << 10;
        if self.held.as_ref().is_some_and(|held| !may_go_on(held) || held.len() > LONGEST_KEPT) {
            self.release(lines);
        }
    }

    fn release(&mut self, lines: &mut Vec<TraceLine>) {
        let Some(held) = self.held.take() else { return };
        let (mut text, mut end, mut marked, mut headline) = (String::new(), 0, false, false);
        for mark in MARK.captures_iter(&held) {
            let whole = mark.get(0).expect("a match has a whole");
            text.push_str(&held[end..whole.start()]);
            end = whole.end();
            marked = true;
            headline |= self.enter(&mark[1] == "start", &mark[2]);
        }
        text.push_str(&held[end..]);
        let text = text.trim_end_matches('\r');
        let text = text.rsplit('\r').next().unwrap_or_default();
        // A line that held only a mark shows nothing in GitLab either.
        if !(marked && super::clean::plain(text).is_empty()) {
            lines.push(TraceLine { text: text.to_owned(), script: self.script && !headline });
        }
    }

    /// Takes note of a mark; tells whether a section of the runner's begins. Those that a script opens itself lie within
    /// and change nothing.
    fn enter(&mut self, start: bool, name: &str) -> bool {
        match &self.runner_section {
            None if start => {
                self.script = SCRIPTS.iter().any(|script| name.starts_with(script));
                self.runner_section = Some(name.to_owned());
                true
            }
            Some(section) if !start && section == name => {
                self.script = false;
                self.runner_section = None;
                false
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: &str = "2026-11-21T10:00:00.000123Z";

    fn framed() -> String {
        [
            "00O \x1b[0KRunning with mayfly",
            "00O section_start:1:prepare_executor\r",
            "00O+\x1b[0K\x1b[0K\x1b[36;1mPreparing\x1b[0;m",
            "00O section_end:2:prepare_executor\r",
            "00O+\x1b[0Ksection_start:3:step_script\r",
            "00O+\x1b[0K\x1b[36;1mExecuting\x1b[0;m",
            "01O \x1b[32;1m$ make\x1b[0;m",
            "01O section_start:4:mine[collapsed=true]\r",
            "01O+\x1b[0KMine",
            "01O  10%\r",
            "01O+ 20%\r",
            "01O+done",
            "01O section_end:4:mine\r",
            "01O+\x1b[0K",
            "01O ",
            "01O last\r",
            "00O section_end:5:step_script\r",
            "00O+\x1b[0KJob succeeded",
        ]
        .map(|line| format!("{AT} {line}\n"))
        .concat()
    }

    fn all(pieces: &[&[u8]]) -> Vec<(String, bool)> {
        let mut trace = TraceLines::default();
        let mut lines: Vec<TraceLine> = pieces.iter().flat_map(|piece| trace.read(piece)).collect();
        lines.extend(trace.end());
        lines.into_iter().map(|line| (crate::cli::clean::plain(&line.text), line.script)).collect()
    }

    #[test]
    fn a_framed_trace_becomes_lines_with_their_section() {
        let lines = all(&[framed().as_bytes()]);
        let expected = [
            ("Running with mayfly", false),
            ("Preparing", false),
            ("Executing", false),
            ("$ make", true),
            ("Mine", true),
            ("done", true),
            ("", true),
            ("last", true),
            ("Job succeeded", false),
        ];
        assert_eq!(lines, expected.map(|(text, script)| (text.to_owned(), script)));
    }

    #[test]
    fn a_trace_without_times_is_read_as_well() {
        let trace = b"\x1b[0KRunning\nsection_start:1:step_script\r\x1b[0K$ x\n\xff one\r two\nERROR: no end";
        let expected = [("Running", false), ("$ x", false), (" two", true), ("ERROR: no end", true)];
        assert_eq!(all(&[trace]), expected.map(|(text, script)| (text.to_owned(), script)));
    }

    #[test]
    fn a_whole_line_is_shown_at_once() {
        let mut trace = TraceLines::default();
        assert_eq!(trace.read(format!("{AT} 01O hello\n{AT} 01O half").as_bytes()).len(), 1);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0usize..900, 0..6)) {
            let text = framed();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(all(&pieces), all(&[text.as_bytes()]));
        }
    }
}
