//! Reads the webhook's secret: what GitLab may send as `X-Gitlab-Token`, and what it may sign with.

use secrecy::SecretString;
use serde::Deserialize;

use crate::gitlab::{WebhookSecrets, is_signing_token};

/// The secret's JSON. The stack generates `secret_token`; the lists are for a second GitLab, and for replacing one.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    secret_token: String,
    secret_tokens: Vec<String>,
    signing_tokens: Vec<String>,
}

/// Reads the secret; at least one token must be in it, and none may be empty.
pub fn webhook_secrets(text: &str, _last: Option<&WebhookSecrets>) -> Result<WebhookSecrets, String> {
    // The error of a parser may quote the text: only its place is named.
    let document: Document = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("is not `{{\"secret_token\": \"...\", \"signing_tokens\": []}}` (line {line}, column {column})")
    })?;
    if document.secret_tokens.iter().any(|token| token.trim().is_empty()) {
        return Err("has an empty text among its `secret_tokens`".into());
    }
    if !document.signing_tokens.iter().all(|token| is_signing_token(token)) {
        return Err("has a `signing_tokens` entry that is not `whsec_` and the base64 of at least 24 bytes".into());
    }
    let generated = Some(document.secret_token).filter(|token| !token.trim().is_empty());
    let tokens: Vec<SecretString> = generated.into_iter().chain(document.secret_tokens).map(Into::into).collect();
    let signing_tokens: Vec<SecretString> = document.signing_tokens.into_iter().map(Into::into).collect();
    if tokens.is_empty() && signing_tokens.is_empty() {
        return Err("holds no token: put one in as `secret_token`, and the same into GitLab's webhook settings".into());
    }
    Ok(WebhookSecrets { tokens, signing_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNING: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn tokens_are_counted_where_they_stand() {
        for (text, tokens, signing) in [
            (r#"{"secret_token": "a"}"#.to_owned(), 1, 0),
            (r#"{"secret_token": "a", "secret_tokens": ["b"], "signing_tokens": []}"#.to_owned(), 2, 0),
            (format!(r#"{{"secret_token": "", "signing_tokens": ["{SIGNING}"]}}"#), 0, 1),
        ] {
            let secrets = webhook_secrets(&text, None).unwrap();
            assert_eq!((secrets.tokens.len(), secrets.signing_tokens.len()), (tokens, signing), "{text}");
        }
    }

    #[test]
    fn empty_and_damaged_secrets_are_refused_without_quoting_them() {
        for (text, named) in [
            ("", "line 1"),
            ("hush", "line 1"),
            (r#"{"token": "hush"}"#, "line 1"),
            ("{}", "holds no token"),
            (r#"{"secret_token": "", "secret_tokens": [], "signing_tokens": []}"#, "holds no token"),
            (r#"{"secret_token": "hush", "secret_tokens": [""]}"#, "`secret_tokens`"),
            (r#"{"signing_tokens": ["whsec_"]}"#, "`signing_tokens`"),
            (r#"{"signing_tokens": ["hush"]}"#, "`signing_tokens`"),
            (r#"{"signing_tokens": ["whsec_aHVzaA=="]}"#, "`signing_tokens`"),
        ] {
            let error = webhook_secrets(text, None).unwrap_err();
            assert!(error.contains(named) && !error.contains("hush"), "{text}: {error}");
        }
    }
}
