//! Who sent a request, by what it says of itself.

use std::fmt;

use mayfly::sandbox::traffic::Seen;

/// Who can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The dispatcher, and with it settle.
    Dispatcher,
    /// The broker.
    Broker,
    /// The helper container: the shell that fetches the agent, the agent, and its git.
    Helper,
}

impl Sender {
    pub const ALL: [Sender; 3] = [Sender::Dispatcher, Sender::Broker, Sender::Helper];

    pub fn name(self) -> &'static str {
        match self {
            Sender::Dispatcher => "dispatcher",
            Sender::Broker => "broker",
            Sender::Helper => "helper",
        }
    }

    /// `None` for GitLab's hooks, ECS' own reading, and the sandbox's setup.
    pub fn of(seen: &Seen) -> Option<Sender> {
        let agent = seen.user_agent.as_str();
        // The runner's first contact is made before there is a job.
        if seen.path.ends_with("/runners/verify") {
            return None;
        }
        if agent.contains("app/mayfly-dispatcher") || agent.contains("(dispatcher)") {
            return Some(Sender::Dispatcher);
        }
        if agent.contains("app/mayfly-broker") {
            return Some(Sender::Broker);
        }
        let helper = agent.contains("(helper)") || agent.starts_with("Wget") || is_git(seen);
        helper.then_some(Sender::Helper)
    }
}

fn is_git(seen: &Seen) -> bool {
    seen.server == "gitlab" && (seen.path.contains("/info/refs") || seen.path.contains("/git-upload-pack"))
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
