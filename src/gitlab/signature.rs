//! Decides whether a webhook request comes from our GitLab (gitlab-protocol.md §1.3).

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How old or how early a signed request may be, the tolerance of the Standard Webhooks libraries.
const TOLERANCE: Duration = Duration::from_secs(300);

/// What a genuine hook may carry; several of each, so that one can be replaced while both are in use.
#[derive(Clone, Debug, Default)]
pub struct WebhookSecrets {
    /// Secret tokens: `X-Gitlab-Token` must be one of them.
    pub tokens: Vec<SecretString>,
    /// Signing tokens, `whsec_` and 32 bytes in base64.
    pub signing_tokens: Vec<SecretString>,
}

/// What we think of a request's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It knows a secret of ours.
    Genuine,
    /// It carries nothing that could be checked against what we have.
    Unsigned,
    /// What it carries is wrong.
    Forged,
    /// It is signed, and too old or too early: a replay.
    Stale,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Genuine => "genuine",
            Verdict::Unsigned => "no secret token and no signature: set one in GitLab's webhook settings",
            Verdict::Forged => "the secret token or signature is not ours: compare GitLab's webhook settings",
            Verdict::Stale => "signed more than 300 s ago or ahead: a replay, or a clock that is wrong",
        })
    }
}

/// Judges a request by its headers and the raw bytes of its body.
///
/// A signature that is there and that we have a key for must be right; such a request never passes by its plain token.
pub fn verify(secrets: &WebhookSecrets, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
    if headers.contains_key("webhook-signature") && !secrets.signing_tokens.is_empty() {
        return verify_signature(secrets, headers, body, now);
    }
    match headers.get("x-gitlab-token") {
        None => Verdict::Unsigned,
        Some(token) => {
            // Compare all, and compare hashes: neither the length nor the place of a difference shows in the time.
            let given = Sha256::digest(token.as_bytes());
            let same = |ours: &SecretString| Sha256::digest(ours.expose_secret().as_bytes()).ct_eq(&given);
            let found = secrets.tokens.iter().map(same).fold(subtle::Choice::from(0), |found, same| found | same);
            if found.into() { Verdict::Genuine } else { Verdict::Forged }
        }
    }
}

fn verify_signature(secrets: &WebhookSecrets, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(sent), Some(signatures)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return Verdict::Forged;
    };
    let signed = signatures.split(' ').filter_map(|s| s.strip_prefix("v1,")).filter_map(|s| STANDARD.decode(s).ok());
    let mut genuine = false;
    for signature in signed {
        for key in secrets.signing_tokens.iter().filter_map(signing_key) {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { continue };
            mac.update(format!("{id}.{sent}.").as_bytes());
            mac.update(body);
            genuine |= mac.verify_slice(&signature).is_ok();
        }
    }
    let in_time = sent
        .parse()
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .is_some_and(|sent| sent.duration_since(now).unsigned_abs() <= TOLERANCE);
    match (genuine, in_time) {
        (true, true) => Verdict::Genuine,
        (true, false) => Verdict::Stale,
        (false, _) => Verdict::Forged,
    }
}

/// Whether `token` is `whsec_` and the base64 of a key of at least 24 bytes, the shortest that Standard Webhooks allow.
pub fn is_signing_token(token: &str) -> bool {
    signing_key(&SecretString::from(token)).is_some_and(|key| key.len() >= 24)
}

/// The key of a signing token is what its base64 part decodes to.
fn signing_key(token: &SecretString) -> Option<Vec<u8>> {
    STANDARD.decode(token.expose_secret().strip_prefix("whsec_")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    const NOW: i64 = 1_700_000_000;

    fn secrets(tokens: &[&str], keys: &[&str]) -> WebhookSecrets {
        let all = |list: &[&str]| list.iter().map(|s| SecretString::from(*s)).collect();
        WebhookSecrets { tokens: all(tokens), signing_tokens: all(keys) }
    }

    fn sign(key: &str, id: &str, at: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&signing_key(&key.into()).unwrap()).unwrap();
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn only_who_knows_a_secret_is_genuine() {
        let body = b"{}";
        let good = sign(KEY, "id", NOW, body);
        let second = format!("v1,AAAA {good}");
        let old = sign(KEY, "id", NOW - 301, body);
        let foreign = sign(OTHER, "id", NOW, body);
        let (now, then) = (NOW.to_string(), (NOW - 301).to_string());
        let signed = |signature: &str, at: &str, token: &str| {
            let mut all = headers(&[("webhook-id", "id"), ("webhook-timestamp", at), ("webhook-signature", signature)]);
            if !token.is_empty() {
                all.insert("x-gitlab-token", token.parse().unwrap());
            }
            all
        };
        for (what, secrets, headers, verdict) in [
            ("token", secrets(&["s"], &[]), headers(&[("x-gitlab-token", "s")]), Verdict::Genuine),
            ("second token", secrets(&["s", "t"], &[]), headers(&[("x-gitlab-token", "t")]), Verdict::Genuine),
            ("wrong token", secrets(&["s"], &[]), headers(&[("x-gitlab-token", "x")]), Verdict::Forged),
            ("no token", secrets(&["s"], &[]), headers(&[]), Verdict::Unsigned),
            ("empty token, none set", secrets(&[], &[]), headers(&[("x-gitlab-token", "")]), Verdict::Forged),
            ("signature", secrets(&[], &[KEY]), signed(&good, &now, ""), Verdict::Genuine),
            ("key in rotation", secrets(&[], &[OTHER, KEY]), signed(&good, &now, ""), Verdict::Genuine),
            ("several signatures", secrets(&[], &[KEY]), signed(&second, &now, ""), Verdict::Genuine),
            ("old", secrets(&[], &[KEY]), signed(&old, &then, ""), Verdict::Stale),
            ("other time than signed", secrets(&[], &[KEY]), signed(&old, &now, ""), Verdict::Forged),
            ("foreign key", secrets(&[], &[KEY]), signed(&foreign, &now, ""), Verdict::Forged),
            ("wrong signature, right token", secrets(&["s"], &[KEY]), signed(&foreign, &now, "s"), Verdict::Forged),
            ("signature without a key, right token", secrets(&["s"], &[]), signed(&good, &now, "s"), Verdict::Genuine),
            (
                "no signature, right token",
                secrets(&["s"], &[KEY]),
                headers(&[("x-gitlab-token", "s")]),
                Verdict::Genuine,
            ),
        ] {
            let now = Timestamp::from_second(NOW).unwrap();
            assert_eq!(verify(&secrets, &headers, body, now), verdict, "{what}");
        }
    }
}
