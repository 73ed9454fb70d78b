//! What happens in a run before anybody is killed.

use std::fmt;

use mayfly::sandbox::traffic::Moment;

use crate::sender::Sender;

/// A run of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    /// Nothing.
    Undisturbed,
    /// The helper dies with the claim in its hands: settle must say the outcome.
    Settle,
    /// The helper dies with its ticket unopened: the job is launched again.
    Relaunch,
}

impl Plot {
    /// When the helper dies at its first request to open the ticket.
    pub fn helper_dies(self) -> Option<Moment> {
        match self {
            Plot::Undisturbed => None,
            Plot::Settle => Some(Moment::Answered),
            Plot::Relaunch => Some(Moment::Arrived),
        }
    }

    /// Who is killed in this run, from then on.
    pub fn mortals(self) -> &'static [Sender] {
        match self {
            Plot::Undisturbed => &Sender::ALL,
            Plot::Settle | Plot::Relaunch => &[Sender::Dispatcher],
        }
    }

    /// How the job ends, whoever of the mortals dies.
    pub fn ends_as(self) -> (&'static str, Option<&'static str>) {
        match self {
            Plot::Settle => ("failed", Some("runner_system_failure")),
            Plot::Undisturbed | Plot::Relaunch => ("success", None),
        }
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Plot::Undisturbed => "run",
            Plot::Settle => "settle",
            Plot::Relaunch => "relaunch",
        })
    }
}
