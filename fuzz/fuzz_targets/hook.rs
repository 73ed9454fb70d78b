//! Judges and reads any webhook: its URL is open to the world.
//!
//! Four lines of headers, then the body.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use mayfly::gitlab::{Verdict, WebhookSecrets, read_hook, verify};
use secrecy::SecretString;

const HEADERS: [&str; 4] = ["webhook-id", "webhook-timestamp", "webhook-signature", "x-gitlab-token"];

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(HEADERS.len() + 1, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in HEADERS {
        let value = parts.next().filter(|value| !value.is_empty());
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let body = parts.next().unwrap_or_default();
    let secrets = WebhookSecrets {
        tokens: vec![SecretString::from("a token that only its hash is compared of")],
        signing_tokens: vec![
            SecretString::from("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
            SecretString::from("whsec_!"),
        ],
    };
    let now = Timestamp::from_second(1_790_000_000).expect("a time");

    let verdict = verify(&secrets, &headers, body, now);

    assert_ne!(verdict, Verdict::Genuine, "nobody signed that");
    for event in [Some("Job Hook"), Some("Pipeline Hook"), Some("System Hook"), Some("Push Hook"), None] {
        let _ = read_hook(event, body);
    }
});
