//! Why a function cannot work now, and what becomes of its messages.

use thiserror::Error;

use crate::functions::{Event, Message};

/// Why a function cannot work now: a sentence for the person who reads the answer or the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotReady {
    /// A step of the installation is missing.
    #[error("Mayfly is not set up yet: {0}")]
    NotSetUp(String),
    /// AWS did not answer as it should.
    #[error("Mayfly cannot work now: {0}")]
    Unavailable(String),
}

impl NotReady {
    /// What a caller from outside is told: what has to be done, but nothing of an error inside.
    pub fn public(&self) -> String {
        match self {
            NotReady::NotSetUp(_) => self.to_string(),
            NotReady::Unavailable(_) => "Mayfly cannot work now; the log of this function has the reason".to_owned(),
        }
    }

    /// Which of `messages` must come again, by their place.
    ///
    /// Before the installation is complete there is nothing to do, and messages that came again would end in the
    /// dead-letter queue. Ticks never come again: the next one does the same.
    pub fn come_again(&self, messages: &[Message]) -> Vec<usize> {
        let unavailable = matches!(self, NotReady::Unavailable(_));
        let again = messages.iter().enumerate().filter(|(_, message)| unavailable && message.event != Event::Tick);
        again.map(|(place, _)| place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_for_aws_comes_again_and_no_tick_does() {
        let messages = [Message::new(Event::Tick), Message::new(Event::Knock { instance: None, jobs: Vec::new() })];
        assert_eq!(NotReady::NotSetUp("x".into()).come_again(&messages), Vec::<usize>::new());
        assert_eq!(NotReady::Unavailable("x".into()).come_again(&messages), [1]);
    }
}
