//! Which ends are right, for whom was killed where.

use mayfly::sandbox::traffic::Seen;

use crate::sender::Sender;

/// A death.
#[derive(Clone, Debug)]
pub struct Killed {
    pub sender: Sender,
    pub request: Seen,
    /// A helper had the claim by then.
    pub opened: bool,
    /// The claim was in the ledger by then.
    pub stored: bool,
    /// The job's status in GitLab at that moment.
    pub status: String,
}

/// The status and failure reason (any, if none is named) that the job may end with.
pub fn expected(killed: &Killed) -> Vec<(&'static str, Option<&'static str>)> {
    match killed.sender {
        // The one window that cannot be closed: GitLab has given the job away, and its bytes are nowhere.
        Sender::Dispatcher if is_lost_claim(killed) => vec![("failed", Some("no_updates_running"))],
        // A renewal goes on beside a claim: the claim's bytes may be on their way, and come to the ledger or not.
        Sender::Dispatcher if is_renewal(killed) && killed.status == "running" && !killed.stored => {
            vec![("failed", Some("no_updates_running")), ("success", None)]
        }
        Sender::Dispatcher | Sender::Broker => vec![("success", None)],
        // Before the ticket is opened another task does it; after GitLab's word nothing is left to say.
        Sender::Helper if !killed.opened || killed.status == "success" => vec![("success", None)],
        Sender::Helper => vec![("failed", Some("runner_system_failure"))],
    }
}

/// Only these two requests lie in the window: the claim itself, answered, and the writing of its bytes, not yet done.
fn is_lost_claim(killed: &Killed) -> bool {
    let request = &killed.request;
    let at_claim = request.server == "gitlab" && request.path.ends_with("/jobs/request");
    let at_store = request.server == "s3" && request.method == "PUT" && request.path.contains("/claims/");
    (at_claim || at_store) && killed.status == "running" && !killed.stored
}

/// The lease is renewed whenever its time comes: who dies at that may die in the window, too.
fn is_renewal(killed: &Killed) -> bool {
    killed.request.server == "s3" && killed.request.path.contains("/ledger/lease")
}
