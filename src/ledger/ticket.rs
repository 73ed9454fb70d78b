//! Owns the ticket: what opens one claim, for one attempt.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::JobKey;
use super::keys::{SigningKey, read_signed, sign};

/// Opens one claim. Whoever may describe tasks sees it; it is worth nothing without the launch key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose claim.
    pub job: JobKey,
    /// Which launch of it.
    pub attempt: u32,
}

impl Ticket {
    /// The ticket's text, the same each time.
    pub fn sign(&self, key: &SecretString) -> String {
        sign(key, "ticket", self)
    }

    /// Reads a ticket that was signed with `key`, or with the one before it.
    pub fn read(key: &SigningKey, text: &str) -> Option<Ticket> {
        read_signed(key, "ticket", text)
    }
}
