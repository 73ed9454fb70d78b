//! Frames the lines of a trace with their time, as GitLab shows them with `FF_TIMESTAMPS` (runner-behaviour.md §2.6).
//!
//! `2026-11-21T10:00:00.123456Z 01O text`: the time at which the line began, the stream's number in two hex digits, `O`,
//! and a blank; a `+` in its place says that the line goes on behind the one above it. GitLab reads this only where every
//! line has it, so all writers of one trace use this file.

use jiff::Timestamp;

/// The number of our own lines.
pub const RUNNER_STREAM: u8 = 0;

/// The number of the scripts' lines.
pub const JOB_STREAM: u8 = 1;

/// The number of the first service's lines; the others' follow.
pub const SERVICE_STREAMS: u8 = 0x0f;

/// So much of an unfinished line is kept back before it is cut.
const LONGEST_KEPT: usize = 8 << 10;

/// Frames one stream of text.
#[derive(Clone, Debug)]
pub struct Timestamper {
    stream: u8,
    unfinished: Vec<u8>,
    continues: bool,
}

impl Timestamper {
    /// For the stream with this number.
    pub fn new(stream: u8) -> Self {
        Timestamper { stream, unfinished: Vec::new(), continues: false }
    }

    /// Frames `text` and appends all lines that are complete to `out`.
    ///
    /// A progress bar's line is not held back: where a CR has no LF behind it, all of `text` goes out, and what follows is
    /// marked as its continuation.
    pub fn write(&mut self, now: Timestamp, mut text: &[u8], out: &mut Vec<u8>) {
        while let Some(at) = text.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = text.split_at(at + 1);
            self.begin(now);
            out.append(&mut self.unfinished);
            out.extend_from_slice(line);
            text = rest;
        }
        if text.is_empty() {
            return;
        }
        if text.contains(&b'\r') || text.len() + self.unfinished.len() > LONGEST_KEPT {
            self.cut(now, text, out);
        } else {
            self.begin(now);
            self.unfinished.extend_from_slice(text);
        }
    }

    /// Ends the stream: an unfinished line gets its line feed.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.unfinished.is_empty() {
            out.append(&mut self.unfinished);
            out.push(b'\n');
        }
        self.continues = false;
    }

    fn cut(&mut self, now: Timestamp, text: &[u8], out: &mut Vec<u8>) {
        self.begin(now);
        out.append(&mut self.unfinished);
        out.extend_from_slice(text);
        out.push(b'\n');
        self.continues = true;
    }

    /// Begins a line unless one is under way.
    fn begin(&mut self, now: Timestamp) {
        if !self.unfinished.is_empty() {
            return;
        }
        let mark = if std::mem::take(&mut self.continues) { '+' } else { ' ' };
        let time = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
        self.unfinished.extend_from_slice(format!("{time} {:02x}O{mark}", self.stream).as_bytes());
    }
}

/// Frames whole lines of ours that are written at once.
pub fn timestamp_lines(now: Timestamp, text: &str) -> String {
    let mut out = Vec::new();
    let mut timestamper = Timestamper::new(RUNNER_STREAM);
    timestamper.write(now, text.as_bytes(), &mut out);
    timestamper.finish(&mut out);
    String::from_utf8(out).expect("text that is only cut behind ASCII or not at all stays text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00.000123456Z".parse().unwrap()
    }

    fn framed(chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut timestamper = Timestamper::new(JOB_STREAM);
        chunks.iter().for_each(|chunk| timestamper.write(now(), chunk, &mut out));
        timestamper.finish(&mut out);
        out
    }

    /// What GitLab makes of it: the frames are taken off, lines marked with `+` join the one above.
    fn unframed(framed: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for line in framed.split_inclusive(|byte| *byte == b'\n') {
            assert_eq!(&line[..31], b"2026-11-21T10:00:00.000123Z 01O", "{}", String::from_utf8_lossy(line));
            if line[31] == b'+' {
                assert_eq!(text.pop(), Some(b'\n'));
            } else {
                assert_eq!(line[31], b' ');
            }
            text.extend_from_slice(&line[32..]);
        }
        text
    }

    #[test]
    fn lines_are_framed_as_gitlab_runner_frames_them() {
        let frame = "2026-11-21T10:00:00.000123Z 01O";
        for (chunks, expected) in [
            (&["one\ntwo\n"][..], vec![" one\n", " two\n"]),
            (&["o", "ne\r\n"], vec![" one\r\n"]),
            (&["no end"], vec![" no end\n"]),
            (&["10%\r20%\r30", "%\rdone\n"], vec![" 10%\r20%\r30\n", "+%\rdone\n"]),
            (&["section_start:1:x\r\x1b[0K", "Head\n"], vec![" section_start:1:x\r\x1b[0K\n", "+Head\n"]),
            (&["\n\n"], vec![" \n", " \n"]),
        ] {
            let chunks: Vec<&[u8]> = chunks.iter().map(|c| c.as_bytes()).collect();
            let expected: String = expected.iter().map(|line| format!("{frame}{line}")).collect();
            assert_eq!(String::from_utf8(framed(&chunks)).unwrap(), expected);
        }
    }

    #[test]
    fn a_line_without_an_end_is_cut_and_not_kept() {
        let mut out = Vec::new();
        let mut timestamper = Timestamper::new(JOB_STREAM);
        timestamper.write(now(), &[b'x'; 9000], &mut out);
        assert_eq!(out.len(), 32 + 9000 + 1);
        assert_eq!(unframed(&framed(&[&[b'x'; 9000], b"yz\n"]))[8998..], *b"xxyz\n");
    }

    #[test]
    fn lines_that_are_written_at_once_stand_alone() {
        let line = timestamp_lines(now(), "a\nb");
        assert_eq!(line, "2026-11-21T10:00:00.000123Z 00O a\n2026-11-21T10:00:00.000123Z 00O b\n");
    }

    proptest! {
        #[test]
        fn the_text_is_whole_under_any_chunking(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(0usize..300, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let mut expected = text.clone();
            let whole = unframed(&framed(&chunks));
            // Only the end may differ: a text without a last line feed gets one.
            if whole.len() > expected.len() {
                expected.push(b'\n');
            }
            prop_assert_eq!(whole, expected);
        }
    }
}
