//! Translates function URLs for a local stand-in for AWS.
//!
//! `https://<id>.lambda-url.<region>.on.aws` resolves to AWS itself, and `*.localhost` does not resolve on every machine.
//! ministack also serves the function at the path `/_aws/lambda-url/<id>`.

/// The same URL at `endpoint`; `None` if it is no function URL.
pub fn reachable(endpoint: &str, url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (id, region) = host.strip_suffix(".on.aws")?.split_once(".lambda-url.")?;
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (is_name(id) && is_name(region)).then(|| format!("{}/_aws/lambda-url/{id}{path}", endpoint.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_function_urls_move() {
        for (url, expected) in [
            ("https://0a1b.lambda-url.us-east-1.on.aws", Some("http://127.0.0.1:4566/_aws/lambda-url/0a1b")),
            ("https://0a1b.lambda-url.us-east-1.on.aws/", Some("http://127.0.0.1:4566/_aws/lambda-url/0a1b/")),
            ("https://0a1b.lambda-url.us-east-1.on.aws/a?b", Some("http://127.0.0.1:4566/_aws/lambda-url/0a1b/a?b")),
            ("https://0a1b.lambda-url.us-east-1.on.aws.example.com/", None),
            ("https://x/.lambda-url.us-east-1.on.aws", None),
            ("https://.lambda-url.us-east-1.on.aws", None),
            ("https://bucket.s3.us-east-1.amazonaws.com/", None),
            ("0a1b.lambda-url.us-east-1.on.aws", None),
        ] {
            assert_eq!(reachable("http://127.0.0.1:4566/", url).as_deref(), expected, "{url}");
        }
    }
}
