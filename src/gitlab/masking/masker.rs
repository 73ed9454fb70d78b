//! Replaces the values of masked variables by `[MASKED]`, wherever chunks are cut (runner-behaviour.md §7.2).

use super::automaton::{Automaton, State};

/// What stands in a secret's place.
pub(super) const MASK: &[u8] = b"[MASKED]";

/// Masks one stream.
///
/// A byte that is part of any occurrence of any value never leaves. Values that overlap become one mask, so that not even
/// the rest of a shorter one shows. No more is held back than what may still become a value.
#[derive(Clone, Debug)]
pub(super) struct Masker {
    words: Automaton,
    state: State,
    /// Bytes that were read and not yet let go.
    held: Vec<u8>,
    /// Occurrences in `held`, in order; places count from its beginning.
    found: Vec<Found>,
    /// The mask that was written last reaches so far into `held`.
    masked_to: usize,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    start: usize,
    end: usize,
}

impl Masker {
    /// Masks these values.
    pub(super) fn new(values: &[String]) -> Self {
        let words = Automaton::new(values);
        Masker { words, state: State::default(), held: Vec::new(), found: Vec::new(), masked_to: 0 }
    }

    /// Reads `bytes` and appends what is safe to `out`.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut read = self.held.len();
        self.held.extend_from_slice(bytes);
        while read < self.held.len() {
            if self.state == State::default() {
                read += self.words.skip(&self.held[read..]);
                if read == self.held.len() {
                    break;
                }
            }
            self.state = self.words.next(self.state, self.held[read]);
            read += 1;
            match self.words.word(self.state) {
                0 => {}
                length => self.remember(Found { start: read - length, end: read }),
            }
        }
        self.let_go(self.held.len() - self.words.pending(self.state), out);
    }

    /// Ends the stream: nothing can become a value any more.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.let_go(self.held.len(), out);
        self.state = State::default();
        self.masked_to = 0;
    }

    /// A later find ends later, but may begin earlier than those before it.
    fn remember(&mut self, mut new: Found) {
        while let Some(last) = self.found.pop_if(|last| new.start < last.end) {
            new.start = new.start.min(last.start);
        }
        self.found.push(new);
    }

    /// Writes the first `safe` bytes of `held`: no find that is still to come begins among them.
    fn let_go(&mut self, safe: usize, out: &mut Vec<u8>) {
        for Found { start, end } in self.found.extract_if(.., |found| found.start < safe) {
            if start >= self.masked_to {
                out.extend_from_slice(&self.held[self.masked_to..start]);
                out.extend_from_slice(MASK);
            }
            self.masked_to = end;
        }
        if self.masked_to < safe {
            out.extend_from_slice(&self.held[self.masked_to..safe]);
        }
        self.held.drain(..safe);
        self.masked_to = self.masked_to.saturating_sub(safe);
        for found in &mut self.found {
            found.start -= safe;
            found.end -= safe;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(values: &[&str], chunks: &[&[u8]]) -> String {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let mut masker = Masker::new(&values);
        let mut out = Vec::new();
        chunks.iter().for_each(|chunk| masker.write(chunk, &mut out));
        masker.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_masked_as_a_whole() {
        for (values, text, expected) in [
            (&["secret"][..], "a secret here", "a [MASKED] here"),
            (&["secret"], "secretsecret", "[MASKED][MASKED]"),
            (&["abc", "abcdef"], "abcdef abcde", "[MASKED] [MASKED]de"),
            (&["one\ntwo"], "one\ntwo one", "[MASKED] one"),
            (&["abcd", "cdef"], "xabcdefx", "x[MASKED]x"),
            (&["bc", "abcd"], "abcd abce", "[MASKED] a[MASKED]e"),
            (&["aa"], "aaaaa", "[MASKED]"),
            (&[], "nothing", "nothing"),
            (&[""], "nothing", "nothing"),
        ] {
            assert_eq!(masked(values, &[text.as_bytes()]), expected, "{values:?} in {text:?}");
        }
    }

    #[test]
    fn a_secret_that_is_split_anywhere_never_shows() {
        let text = b"before hunter2-hunter2x after";
        for first in 0..text.len() {
            for second in first..text.len() {
                let chunks = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(masked(&["hunter2", "hunter2x"], &chunks), "before [MASKED]-[MASKED] after");
            }
        }
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_let_go_at_once_or_at_the_end() {
        let mut masker = Masker::new(&["secret".to_owned()]);
        let mut out = Vec::new();
        masker.write(b"a sec", &mut out);
        assert_eq!(out, b"a ");
        masker.write(b"ond", &mut out);
        assert_eq!(out, b"a second");
        masker.write(b" se", &mut out);
        masker.finish(&mut out);
        assert_eq!(out, b"a second se");
    }

    #[test]
    fn a_long_line_is_not_held() {
        let mut masker = Masker::new(&["secret".to_owned(), "aa".to_owned()]);
        let mut out = Vec::new();
        for _ in 0..64 {
            masker.write(&[b'a'; 64 << 10], &mut out);
            assert!(masker.held.len() < 8 && masker.found.len() < 2);
        }
        masker.finish(&mut out);
        assert_eq!(out, MASK);
    }

    /// Every byte of every occurrence is covered; covered runs that overlap are one mask.
    fn by_hand(values: &[String], text: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        for value in values.iter().map(String::as_bytes).filter(|v| !v.is_empty()) {
            let starts = (0..text.len()).filter(|at| text[*at..].starts_with(value));
            found.extend(starts.map(|at| (at, at + value.len())));
        }
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (start, end) in found {
            match merged.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        let (mut out, mut at) = (Vec::new(), 0);
        for (start, end) in merged {
            out.extend_from_slice(&text[at..start]);
            out.extend_from_slice(MASK);
            at = end;
        }
        out.extend_from_slice(&text[at..]);
        out
    }

    proptest! {
        #[test]
        fn masking_under_any_chunking_equals_masking_of_the_whole(
            values in proptest::collection::vec("[ab]{0,4}", 0..4),
            text in "[abc]{0,60}",
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut masker = Masker::new(&values);
            let mut out = Vec::new();
            for window in cuts.windows(2) {
                masker.write(&text[window[0]..window[1]], &mut out);
            }
            masker.finish(&mut out);
            prop_assert_eq!(out, by_hand(&values, text));
        }
    }
}
