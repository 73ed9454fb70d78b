//! Reads the secret of runner tokens: a JSON object of tokens by the names of runners.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tracing::error;

/// Tokens by the names of runners.
pub type RunnerTokens = BTreeMap<String, SecretString>;

/// Reads the object. An entry that is not a token leaves its runner with the last good one, and all others untouched.
pub fn runner_tokens(text: &str, last: Option<&RunnerTokens>) -> Result<RunnerTokens, String> {
    // The error of a parser may quote the text: only its place is named.
    let entries: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("is not a JSON object like {{\"<runner>\": \"glrt-...\"}} (line {line}, column {column})")
    })?;
    let mut tokens = RunnerTokens::new();
    for (name, value) in entries {
        let token = value.as_str().map(str::trim).filter(|token| !token.is_empty() && token.is_ascii());
        let last = last.and_then(|last| last.get(&name));
        match (token, last) {
            (Some(token), _) => drop(tokens.insert(name, SecretString::from(token))),
            (None, Some(last)) => {
                error!(runner.name = %name, "the token of runner `{name}` is empty or no text: its last good one stays");
                tokens.insert(name, SecretString::from(last.expose_secret()));
            }
            (None, None) => error!(runner.name = %name, "the token of runner `{name}` is empty or no text"),
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, last: Option<&RunnerTokens>) -> Vec<(String, String)> {
        let tokens = runner_tokens(text, last).unwrap();
        tokens.into_iter().map(|(name, token)| (name, token.expose_secret().to_owned())).collect()
    }

    #[test]
    fn one_bad_entry_costs_no_other_runner_its_token() {
        assert_eq!(read("{}", None), []);
        let good = runner_tokens(r#"{"a": "glrt-1", "b": " glrt-2\n"}"#, None).unwrap();
        for bad in ["\"\"", "\" \"", "7", "null", "[\"glrt-3\"]", "\"glrt-ü\""] {
            let text = format!(r#"{{"a": {bad}, "b": "glrt-4"}}"#);
            assert_eq!(read(&text, None), [("b".into(), "glrt-4".into())], "{bad}");
            assert_eq!(read(&text, Some(&good)), [("a".into(), "glrt-1".into()), ("b".into(), "glrt-4".into())]);
        }
        // An entry that is removed takes its token away.
        assert_eq!(read(r#"{"b": "glrt-2"}"#, Some(&good)), [("b".into(), "glrt-2".into())]);
    }

    #[test]
    fn a_damaged_secret_is_refused_without_quoting_it() {
        for text in ["", "glrt-secret", "[\"glrt-secret\"]", "{\"a\": \"glrt-secret\""] {
            let error = runner_tokens(text, None).unwrap_err();
            assert!(error.contains("JSON object") && !error.contains("glrt-secret"), "{error}");
        }
    }
}
