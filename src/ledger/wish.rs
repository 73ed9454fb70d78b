//! Wishes: what others ask of the holder of the lease, each an object of its own.
//!
//! All of a wish stands in its key, so that listing wishes is enough to read them.

use super::JobKey;

/// What the holder of the lease is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Poll one runner.
    Poll {
        /// Its name in the fleet.
        runner: String,
        /// How often it was polled in vain for the same knock.
        in_vain: u8,
        /// The job that a hook named, if it named one.
        job: Option<u64>,
    },
    /// Poll all runners.
    PollAll,
    /// Bring a job to a launch.
    Launch(JobKey),
    /// A task has stopped: try the jobs that wait for capacity.
    Room,
}

/// Keys of wishes begin with this; a listing of `claims` returns claims and wishes.
pub(super) const WISHES: &str = "claims-wanted/";

impl Wish {
    /// The wish's key; `unique` keeps two equal wishes apart.
    pub fn key(&self, unique: &str) -> String {
        let what = match self {
            Wish::Poll { runner, in_vain, job } => {
                format!("poll/{}/{in_vain}/{}", hex::encode(runner), job.unwrap_or_default())
            }
            Wish::PollAll => "poll-all".to_owned(),
            Wish::Launch(job) => format!("launch/{}/{}", job.host, job.id),
            Wish::Room => "room".to_owned(),
        };
        format!("{WISHES}{what}/{unique}")
    }

    /// Reads a key back; `None` for anything else.
    pub fn from_key(key: &str) -> Option<Wish> {
        let parts: Vec<&str> = key.strip_prefix(WISHES)?.split('/').collect();
        match parts.as_slice() {
            ["poll", runner, in_vain, job, _] => Some(Wish::Poll {
                runner: String::from_utf8(hex::decode(runner).ok()?).ok()?,
                in_vain: in_vain.parse().ok()?,
                job: Some(job.parse().ok()?).filter(|job| *job != 0),
            }),
            ["poll-all", _] => Some(Wish::PollAll),
            ["launch", host, id, _] => Some(Wish::Launch(JobKey { host: (*host).to_owned(), id: id.parse().ok()? })),
            ["room", _] => Some(Wish::Room),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_back_from_its_key() {
        for wish in [
            Wish::Poll { runner: "a/b c".into(), in_vain: 2, job: Some(7) },
            Wish::Poll { runner: String::new(), in_vain: 255, job: None },
            Wish::PollAll,
            Wish::Launch(JobKey { host: "gitlab.test_8443_git".into(), id: 42 }),
            Wish::Room,
        ] {
            assert_eq!(Wish::from_key(&wish.key("x")), Some(wish));
        }
        for other in ["claims/gitlab.test/1", "claims-wanted/", "claims-wanted/poll/zz/0/0/x", "claims-wanted/dance/x"]
        {
            assert_eq!(Wish::from_key(other), None, "{other}");
        }
    }
}
