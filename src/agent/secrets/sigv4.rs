//! Signs one request for AWS with Signature Version 4: enough for a POST without a query, and no SDK in the agent.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Credentials of a session.
pub(super) struct Session {
    pub access_key: String,
    pub secret_key: SecretString,
    pub token: SecretString,
}

/// What is signed.
pub(super) struct Signed<'a> {
    pub method: &'a str,
    /// Encoded, from the slash on.
    pub path: &'a str,
    /// Encoded and in order, without the question mark.
    pub query: &'a str,
    /// Lower-case names, in order, `host` among them.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub region: &'a str,
    pub service: &'a str,
}

/// `20150830T123600Z`.
pub(super) fn amz_date(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The value of the header `Authorization`.
pub(super) fn authorization(request: &Signed<'_>, session: &Session, amz_date: &str) -> String {
    let date = &amz_date[..8];
    let names = request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let headers: String = request.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{names}\n{}",
        request.method,
        request.path,
        request.query,
        hex::encode(Sha256::digest(request.body))
    );
    let scope = format!("{date}/{}/{}/aws4_request", request.region, request.service);
    let text = format!("AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let key = format!("AWS4{}", session.secret_key.expose_secret());
    let parts = [date, request.region, request.service, "aws4_request"];
    let key = parts.iter().fold(key.into_bytes(), |key, part| mac(&key, part));
    let signature = hex::encode(mac(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", session.access_key)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS' own example: IAM's ListUsers in the documentation of Signature Version 4.
    #[test]
    fn the_example_of_the_documentation_has_its_signature() {
        let request = Signed {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            body: b"",
            region: "us-east-1",
            service: "iam",
        };
        let session = Session {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: "".into(),
        };
        assert_eq!(
            authorization(&request, &session, "20150830T123600Z"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_time_is_written_as_aws_reads_it() {
        assert_eq!(amz_date("2015-08-30T12:36:00.123Z".parse().unwrap()), "20150830T123600Z");
    }
}
