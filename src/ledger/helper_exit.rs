//! Owns the exit codes of the helper: they tell whoever settles the task what GitLab knows.

/// How the helper ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HelperExit {
    /// GitLab has taken the outcome, or had ended the job itself: nothing is left to say. Only this is 0.
    Done = 0,
    /// The task's environment is not what it should be; the ticket was not opened.
    Misconfigured = 2,
    /// `build` never connected: its image could not be started; the ticket was not opened.
    NoBuild = 10,
    /// The broker refused the ticket: somebody else has opened it, or it is of an earlier attempt.
    Refused = 11,
    /// The broker did not answer; whether the ticket was opened is not known.
    NoBroker = 12,
    /// The task was stopped before the ticket was opened.
    StoppedEarly = 13,
    /// The ticket was opened, and GitLab does not know the outcome.
    Unsaid = 14,
}

impl HelperExit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}
