//! Owns the three keys' uses: tickets, the helper's proof, grants. Each is an HMAC-SHA256 under a key of its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

/// The helper's proof that it holds the launch key: tickets alone are visible to whoever may describe tasks.
pub fn proof(launch_key: &SecretString, ticket: &str, nonce: &str) -> String {
    let mut mac = mac(launch_key, "proof");
    mac.update(ticket.as_bytes());
    mac.update(b"\n");
    mac.update(nonce.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether `given` is the [`proof`] over `ticket` and `nonce`, in constant time.
pub fn is_proof(launch_key: &SecretString, ticket: &str, nonce: &str, given: &str) -> bool {
    let mut mac = mac(launch_key, "proof");
    mac.update(ticket.as_bytes());
    mac.update(b"\n");
    mac.update(nonce.as_bytes());
    URL_SAFE_NO_PAD.decode(given).is_ok_and(|given| mac.verify_slice(&given).is_ok())
}

/// Signs `value` so that it can be carried through strangers' hands: `<base64 JSON>.<base64 MAC>`.
pub(crate) fn sign<T: Serialize>(key: &SecretString, purpose: &str, value: &T) -> String {
    let json = serde_json::to_vec(value).expect("tickets and grants are plain data");
    let payload = URL_SAFE_NO_PAD.encode(json);
    let mut mac = mac(key, purpose);
    mac.update(payload.as_bytes());
    format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Reads what [`sign`] made; `None` for anything else.
pub(crate) fn read_signed<T: DeserializeOwned>(key: &SecretString, purpose: &str, text: &str) -> Option<T> {
    let (payload, given) = text.split_once('.')?;
    let mut mac = mac(key, purpose);
    mac.update(payload.as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(given).ok()?).ok()?;
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
        let (key, other) = (SecretString::from("k"), SecretString::from("o"));
        let signed = sign(&key, "ticket", &("gitlab.test", 7));
        assert_eq!(read_signed::<(String, u64)>(&key, "ticket", &signed), Some(("gitlab.test".into(), 7)));
        assert_eq!(read_signed::<(String, u64)>(&other, "ticket", &signed), None);
        assert_eq!(read_signed::<(String, u64)>(&key, "grant", &signed), None);
        assert_eq!(read_signed::<(String, u64)>(&key, "ticket", &format!("A{signed}")), None);
        assert_eq!(read_signed::<(String, u64)>(&key, "ticket", "no dot"), None);
    }

    #[test]
    fn a_proof_holds_for_its_ticket_nonce_and_key_only() {
        let (key, other) = (SecretString::from("k"), SecretString::from("o"));
        let made = proof(&key, "ticket", "nonce");
        assert!(is_proof(&key, "ticket", "nonce", &made));
        assert!(!is_proof(&key, "ticket", "other", &made));
        assert!(!is_proof(&other, "ticket", "nonce", &made));
        assert!(!is_proof(&key, "ticket", "nonce", "rubbish"));
    }
}
