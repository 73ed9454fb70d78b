//! Owns the trace as it is sent: all of it, up to the limit (runner-behaviour.md §7.1).

use bytes::Bytes;
use jiff::Timestamp;

use crate::gitlab::timestamps::timestamp_lines;

/// A job's log may be so long; later output is not kept.
pub(super) const OUTPUT_LIMIT: usize = 4 << 20;

/// All bytes of the trace.
///
/// They are kept after they were sent: GitLab may lose its copy and ask for it from the beginning
/// (gitlab-protocol.md §6.1), and the checksum is over all of them.
#[derive(Clone, Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    limit: usize,
    framed: bool,
    full: bool,
}

impl Output {
    /// Goes on behind `begun`; `framed` traces have timestamps.
    pub(super) fn new(begun: Vec<u8>, limit: usize, framed: bool) -> Self {
        Output { bytes: begun, limit, framed, full: false }
    }

    /// Appends `text`, which ends between two characters, up to the limit; says whether all of it is there.
    pub(super) fn append(&mut self, text: &[u8]) -> bool {
        if self.full {
            return text.is_empty();
        }
        let room = self.limit.saturating_sub(self.bytes.len());
        if text.len() <= room {
            self.bytes.extend_from_slice(text);
            return true;
        }
        let cut = (0..=room).rev().find(|at| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80)).unwrap_or(0);
        self.bytes.extend_from_slice(&text[..cut]);
        self.full = true;
        self.append_last(&format!(
            "\x1b[33;1mJob's log exceeded limit of {} bytes.\nJob execution will continue but no more output will be \
             collected.\x1b[0;m\n",
            self.limit
        ));
        false
    }

    /// Appends lines of ours that are there even when the limit is reached: how the job ended.
    pub(super) fn append_last(&mut self, lines: &str) {
        if self.full && self.bytes.last().is_some_and(|byte| *byte != b'\n') {
            self.bytes.push(b'\n');
        }
        match self.framed {
            true => self.bytes.extend_from_slice(timestamp_lines(Timestamp::now(), lines).as_bytes()),
            false => self.bytes.extend_from_slice(lines.as_bytes()),
        }
    }

    /// Whether nothing but the last lines is taken any more.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// At most `longest` bytes from `offset` on.
    pub(super) fn piece(&self, offset: usize, longest: usize) -> Bytes {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        Bytes::copy_from_slice(&rest[..rest.len().min(longest)])
    }

    /// The CRC-32 of all bytes.
    pub(super) fn crc32(&self) -> u32 {
        crc32fast::hash(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &Output) -> String {
        String::from_utf8(output.piece(0, usize::MAX).to_vec()).unwrap()
    }

    #[test]
    fn the_limit_cuts_between_characters_and_says_so_once() {
        let mut output = Output::new(b"12345".to_vec(), 10, false);
        output.append("6789é".as_bytes());
        output.append(b"more");

        assert!(output.is_full());
        assert_eq!(
            text(&output),
            "123456789\n\x1b[33;1mJob's log exceeded limit of 10 bytes.\nJob execution will continue but no more \
             output will be collected.\x1b[0;m\n"
        );
    }

    #[test]
    fn the_last_lines_come_through_a_full_log() {
        let mut output = Output::new(Vec::new(), 4, true);
        output.append(b"123456");
        output.append_last("Job succeeded\n");

        let lines: Vec<String> = text(&output).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[1..].iter().all(|line| line.contains("Z 00O ")), "{lines:?}");
        assert!(lines[3].ends_with(" 00O Job succeeded"));
    }

    #[test]
    fn exactly_the_limit_is_no_more_than_the_limit() {
        let mut output = Output::new(Vec::new(), 4, false);
        output.append(b"1234");
        assert!(!output.is_full());
        output.append(b"");
        assert!(!output.is_full());
    }

    #[test]
    fn a_piece_beyond_the_end_is_empty() {
        let output = Output::new(b"abc".to_vec(), 10, false);
        assert_eq!((&output.piece(1, 1)[..], &output.piece(7, 1)[..]), (&b"b"[..], &b""[..]));
    }
}
