//! Owns the search for many words at once in a stream of bytes (Aho and Corasick's automaton).
//!
//! The usual crates search in a stream, too, but do not say how much of the text may still become a word, and a masker
//! must not let go of exactly that.

/// A place in the [`Automaton`]: what the bytes so far may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u32);

/// Finds all words of a list, wherever they are.
#[derive(Clone, Debug)]
pub(super) struct Automaton {
    nodes: Vec<Node>,
    roots: Box<[u32; 256]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    byte: u8,
    first_child: u32,
    next_sibling: u32,
    fallback: u32,
    depth: u32,
    longest_word: u32,
}

impl Automaton {
    /// For these words; empty ones are left out.
    pub(super) fn new<W: AsRef<[u8]>>(words: &[W]) -> Self {
        let mut automaton = Automaton { nodes: vec![Node::default()], roots: Box::new([0; 256]) };
        for word in words {
            automaton.add(word.as_ref());
        }
        automaton.link();
        automaton
    }

    /// The state after one more byte.
    pub(super) fn next(&self, state: State, byte: u8) -> State {
        let mut at = state.0;
        loop {
            if at == 0 {
                return State(self.roots[usize::from(byte)]);
            }
            match self.child(at, byte) {
                0 => at = self.nodes[at as usize].fallback,
                child => return State(child),
            }
        }
    }

    /// How many of the last bytes may be the beginning of a word.
    pub(super) fn pending(&self, state: State) -> usize {
        self.nodes[state.0 as usize].depth as usize
    }

    /// The length of the longest word that ends here; 0 when none does.
    pub(super) fn word(&self, state: State) -> usize {
        self.nodes[state.0 as usize].longest_word as usize
    }

    /// How many bytes at the beginning of `bytes` neither begin nor continue a word.
    pub(super) fn skip(&self, bytes: &[u8]) -> usize {
        bytes.iter().position(|byte| self.roots[usize::from(*byte)] != 0).unwrap_or(bytes.len())
    }

    fn add(&mut self, word: &[u8]) {
        let mut at = 0;
        for &byte in word {
            at = match self.child(at, byte) {
                0 => self.add_child(at, byte),
                child => child,
            };
        }
        if at != 0 {
            self.nodes[at as usize].longest_word = self.nodes[at as usize].depth;
        }
    }

    fn child(&self, at: u32, byte: u8) -> u32 {
        if at == 0 {
            return self.roots[usize::from(byte)];
        }
        let mut child = self.nodes[at as usize].first_child;
        while child != 0 && self.nodes[child as usize].byte != byte {
            child = self.nodes[child as usize].next_sibling;
        }
        child
    }

    fn add_child(&mut self, at: u32, byte: u8) -> u32 {
        let child = self.nodes.len() as u32;
        let Node { first_child, depth, .. } = self.nodes[at as usize];
        self.nodes.push(Node { byte, next_sibling: first_child, depth: depth + 1, ..Node::default() });
        self.nodes[at as usize].first_child = child;
        if at == 0 {
            self.roots[usize::from(byte)] = child;
        }
        child
    }

    /// Says for each node where to go on when its own children do not fit: the longest end that begins a word.
    fn link(&mut self) {
        let mut level: Vec<u32> = self.children(0);
        while !level.is_empty() {
            let mut below = Vec::new();
            for at in level {
                let Node { fallback, longest_word, .. } = self.nodes[at as usize];
                if longest_word == 0 {
                    self.nodes[at as usize].longest_word = self.nodes[fallback as usize].longest_word;
                }
                for child in self.children(at) {
                    self.nodes[child as usize].fallback = self.next(State(fallback), self.nodes[child as usize].byte).0;
                    below.push(child);
                }
            }
            level = below;
        }
    }

    fn children(&self, at: u32) -> Vec<u32> {
        let first = self.nodes[at as usize].first_child;
        let follow = |child: &u32| Some(self.nodes[*child as usize].next_sibling).filter(|next| *next != 0);
        std::iter::successors(Some(first).filter(|child| *child != 0), follow).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_word_that_ends_here_is_told() {
        let automaton = Automaton::new(&["he", "she", "hers", ""]);
        let mut state = State::default();
        let words: Vec<usize> = b"ushers"
            .iter()
            .map(|byte| {
                state = automaton.next(state, *byte);
                automaton.word(state)
            })
            .collect();
        assert_eq!(words, [0, 0, 0, 3, 0, 4]);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_search_finds(words in proptest::collection::vec("[ab]{0,4}", 0..5), text in "[abc]{0,40}") {
            let automaton = Automaton::new(&words);
            let mut state = State::default();
            for end in 1..=text.len() {
                state = automaton.next(state, text.as_bytes()[end - 1]);
                let read = &text[..end];
                let longest = words.iter().filter(|w| read.ends_with(w.as_str())).map(String::len).max();
                prop_assert_eq!(automaton.word(state), longest.unwrap_or(0));
                let begun = (0..=end).filter(|n| words.iter().any(|w| w.starts_with(&read[end - n..]))).max();
                prop_assert_eq!(automaton.pending(state), begun.unwrap_or(0));
            }
        }
    }
}
