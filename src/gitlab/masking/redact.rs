//! Hides what comes behind certain words in a stream; the words themselves stay.

use super::automaton::{Automaton, State};
use super::masker::MASK;

/// Hides the run of bytes behind each word.
///
/// Nothing is ever held back: the words may show, and what follows one is known to be secret when it comes.
#[derive(Clone, Debug)]
pub(super) struct Redactor {
    words: Automaton,
    rules: Rules,
    state: State,
    hiding: Hiding,
}

/// How a [`Redactor`] reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The words are lower case, and are found in any case.
    pub any_case: bool,
    /// Nothing behind a word is hidden, too: it gets its mask.
    pub hides_nothing: bool,
    /// Whether a byte behind a word belongs to the secret.
    pub is_secret: fn(u8) -> bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hiding {
    No,
    Next,
    Rest,
}

impl Redactor {
    /// Hides what is behind `words`.
    pub(super) fn new<W: AsRef<[u8]>>(words: &[W], rules: Rules) -> Self {
        Redactor { words: Automaton::new(words), rules, state: State::default(), hiding: Hiding::No }
    }

    /// Reads `bytes` and appends what may show to `out`.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if self.hiding != Hiding::No {
                if (self.rules.is_secret)(byte) {
                    if self.hiding == Hiding::Next {
                        out.extend_from_slice(MASK);
                        self.hiding = Hiding::Rest;
                    }
                    continue;
                }
                self.hiding = Hiding::No;
            }
            out.push(byte);
            let read = if self.rules.any_case { byte.to_ascii_lowercase() } else { byte };
            self.state = self.words.next(self.state, read);
            if self.words.word(self.state) > 0 {
                self.state = State::default();
                self.hiding = Hiding::Next;
                if self.rules.hides_nothing {
                    out.extend_from_slice(MASK);
                    self.hiding = Hiding::Rest;
                }
            }
        }
    }

    /// Ends the stream.
    pub(super) fn finish(&mut self) {
        self.state = State::default();
        self.hiding = Hiding::No;
    }
}
