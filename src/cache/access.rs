//! Owns what the cache asks of whoever signs its URLs: in a task the broker.

use std::error::Error;

/// A request for access to one of a cache entry's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To read the object of candidate number `key`.
    Restore {
        /// Which candidate.
        key: usize,
    },
    /// To write the object at once, in so many bytes.
    Save {
        /// In bytes.
        size: u64,
    },
    /// To write it in parts.
    Begin,
    /// To write one part.
    Part {
        /// From [`Answer::Begun`].
        upload: String,
        /// From 1.
        number: u32,
        /// In bytes.
        size: u64,
    },
    /// All parts are there.
    Complete {
        /// From [`Answer::Begun`].
        upload: String,
        /// In order.
        etags: Vec<String>,
    },
    /// The upload is given up.
    Abort {
        /// From [`Answer::Begun`].
        upload: String,
    },
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Do it here, with these headers.
    Url {
        /// Presigned.
        url: String,
        /// To be sent as they are.
        headers: Vec<(String, String)>,
    },
    /// The upload's name.
    Begun {
        /// S3's upload id.
        upload: String,
    },
    /// Done.
    Done,
}

/// Whoever signs URLs for a job's cache objects.
pub trait Access: Clone + Send + Sync + 'static {
    /// Asks for access to the objects of cache number `entry`; an error is final.
    fn ask(&self, entry: usize, ask: Ask) -> impl Future<Output = Result<Answer, Box<dyn Error + Send + Sync>>> + Send;
}
