//! Owns the three keys' uses: tickets, the helper's proof, grants. Each is an HMAC-SHA256 under a key of its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

/// A signing key, and the one before it: what was signed before a rotation stays good.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// New things are signed with it.
    pub current: SecretString,
    /// What it signed is still accepted.
    pub previous: Option<SecretString>,
}

impl SigningKey {
    /// A key that has not been rotated yet.
    pub fn new(current: SecretString) -> Self {
        SigningKey { current, previous: None }
    }

    /// The key after a rotation to `current`; the same key again changes nothing.
    #[must_use]
    pub fn followed_by(&self, current: SecretString) -> Self {
        match current.expose_secret() == self.current.expose_secret() {
            true => self.clone(),
            false => SigningKey { current, previous: Some(self.current.clone()) },
        }
    }

    fn all(&self) -> impl Iterator<Item = &SecretString> {
        [&self.current].into_iter().chain(&self.previous)
    }
}

/// The helper's proof that it holds the launch key: tickets alone are visible to whoever may describe tasks.
pub fn proof(launch_key: &SecretString, ticket: &str, nonce: &str) -> String {
    let mut mac = mac(launch_key, "proof");
    mac.update(ticket.as_bytes());
    mac.update(b"\n");
    mac.update(nonce.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether `given` is the [`proof`] over `ticket` and `nonce`, in constant time.
pub fn is_proof(launch_key: &SigningKey, ticket: &str, nonce: &str, given: &str) -> bool {
    let Ok(given) = URL_SAFE_NO_PAD.decode(given) else { return false };
    launch_key.all().any(|key| {
        let mut mac = mac(key, "proof");
        mac.update(ticket.as_bytes());
        mac.update(b"\n");
        mac.update(nonce.as_bytes());
        mac.verify_slice(&given).is_ok()
    })
}

/// Signs `value` so that it can be carried through strangers' hands: `<base64 JSON>.<base64 MAC>`.
pub(crate) fn sign<T: Serialize>(key: &SecretString, purpose: &str, value: &T) -> String {
    let json = serde_json::to_vec(value).expect("tickets and grants are plain data");
    let payload = URL_SAFE_NO_PAD.encode(json);
    let mut mac = mac(key, purpose);
    mac.update(payload.as_bytes());
    format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Reads what [`sign`] made with `key` or the key before it; `None` for anything else.
pub(crate) fn read_signed<T: DeserializeOwned>(key: &SigningKey, purpose: &str, text: &str) -> Option<T> {
    let (payload, given) = text.split_once('.')?;
    let given = URL_SAFE_NO_PAD.decode(given).ok()?;
    let signed_by = |key: &SecretString| {
        let mut mac = mac(key, purpose);
        mac.update(payload.as_bytes());
        mac.verify_slice(&given).is_ok()
    };
    if !key.all().any(signed_by) {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The purpose goes in first: what was made for one use is worth nothing for another, even under one key.
fn mac(key: &SecretString, purpose: &str) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).expect("HMAC takes keys of every length");
    mac.update(purpose.as_bytes());
    mac.update(b"\n");
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_read_back_and_nothing_else_is() {
        let key = SigningKey::new(SecretString::from("k"));
        let other = SigningKey::new(SecretString::from("o"));
        let signed = sign(&key.current, "ticket", &("gitlab.test", 7));
        assert_eq!(read_signed::<(String, u64)>(&key, "ticket", &signed), Some(("gitlab.test".into(), 7)));
        assert_eq!(read_signed::<(String, u64)>(&other, "ticket", &signed), None);
        assert_eq!(read_signed::<(String, u64)>(&key, "grant", &signed), None);
        assert_eq!(read_signed::<(String, u64)>(&key, "ticket", &format!("A{signed}")), None);
        assert_eq!(read_signed::<(String, u64)>(&key, "ticket", "no dot"), None);
    }

    #[test]
    fn a_proof_holds_for_its_ticket_nonce_and_key_only() {
        let key = SigningKey::new(SecretString::from("k"));
        let other = SigningKey::new(SecretString::from("o"));
        let made = proof(&key.current, "ticket", "nonce");
        assert!(is_proof(&key, "ticket", "nonce", &made));
        assert!(!is_proof(&key, "ticket", "other", &made));
        assert!(!is_proof(&other, "ticket", "nonce", &made));
        assert!(!is_proof(&key, "ticket", "nonce", "rubbish"));
    }

    #[test]
    fn what_the_key_before_signed_is_good_and_what_the_one_before_that_signed_is_not() {
        let (first, second, third) = ("first", "second", "third");
        let [old, signed] = [first, second].map(|key| sign(&SecretString::from(key), "ticket", &7));
        let key = SigningKey::new(first.into()).followed_by(second.into()).followed_by(third.into());
        let key = key.followed_by(third.into());
        assert_eq!(read_signed::<u64>(&key, "ticket", &signed), Some(7));
        assert_eq!(read_signed::<u64>(&key, "ticket", &old), None);
        assert!(is_proof(&key, "ticket", "nonce", &proof(&second.into(), "ticket", "nonce")));
    }
}
