//! Reads fields of secrets in HashiCorp Vault: logs in with the job's token, then asks the engine.

use http::StatusCode;
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::gitlab::VaultSecret;

use super::error::SecretError;
use super::reply::{Reply, printable, send, text};

/// The value of `secret`, whose texts are expanded; `None` if there is no such secret, or no such field.
pub(super) async fn read(http: &Client, secret: &VaultSecret) -> Result<Option<String>, SecretError> {
    let wrong = |text: String| Err(SecretError::Configuration(text));
    let Ok(base) = secret.server.url.parse::<Url>() else {
        return wrong("Vault's URL is none: set the CI/CD variable `VAULT_SERVER_URL`".into());
    };
    if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
        return wrong("Vault's URL is no http or https URL: look at the CI/CD variable `VAULT_SERVER_URL`".into());
    }
    let auth = &secret.server.auth;
    if !matches!(auth.name.as_str(), "jwt" | "") {
        return wrong(format!(
            "Vault's auth method `{}` is not known: GitLab logs in with `jwt`",
            printable(&auth.name)
        ));
    }
    if auth.data.jwt.is_empty() {
        return wrong("the job has no token for Vault: name one by `token:`, and define it under `id_tokens:`".into());
    }
    let vault = Vault { http, base: &base, namespace: &secret.server.namespace };
    let token = vault.log_in(&auth.path, &auth.data.jwt, &auth.data.role).await?;
    let data = match secret.engine.name.as_str() {
        "kv-v2" => vault.read(&token, &[&secret.engine.path, "data", &secret.path], &["data", "data"]).await?,
        "kv-v1" | "generic" => vault.read(&token, &[&secret.engine.path, &secret.path], &["data"]).await?,
        other => {
            return wrong(format!(
                "Vault's engine `{}` is not known: use `kv-v2`, `kv-v1` or `generic`",
                printable(other)
            ));
        }
    };
    Ok(data.as_ref().and_then(|data| data.get(&secret.field)).and_then(text))
}

struct Vault<'a> {
    http: &'a Client,
    base: &'a Url,
    namespace: &'a str,
}

impl Vault<'_> {
    async fn log_in(&self, mount: &str, jwt: &str, role: &str) -> Result<SecretString, SecretError> {
        let mount = if mount.is_empty() { "jwt" } else { mount };
        let mut who = json!({ "jwt": jwt });
        if !role.is_empty() {
            who["role"] = role.into();
        }
        let request = self.http.post(self.url(&["auth", mount, "login"])?).json(&who);
        let reply = self.send(request).await?;
        if !reply.status.is_success() {
            return Err(refusal(&reply, "authenticating Vault client"));
        }
        match reply.json()["auth"]["client_token"].as_str() {
            Some(token) => Ok(token.into()),
            None => Err(SecretError::Other("Vault lets the job in without a token".into())),
        }
    }

    /// The object below `inner` in the answer; `None` if nothing is at this path.
    async fn read(&self, token: &SecretString, path: &[&str], inner: &[&str]) -> Result<Option<Value>, SecretError> {
        let request = self.http.get(self.url(path)?).header("X-Vault-Token", token.expose_secret());
        let reply = self.send(request).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !reply.status.is_success() {
            return Err(refusal(&reply, "reading secret: reading from Vault"));
        }
        let data = inner.iter().try_fold(reply.json(), |mut value, key| value.get_mut(*key).map(Value::take));
        Ok(data.filter(|data| !data.is_null()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, SecretError> {
        let request = request.header("X-Vault-Request", "true");
        let request = match self.namespace {
            "" => request,
            namespace => request.header("X-Vault-Namespace", namespace),
        };
        send(request, "Vault").await
    }

    /// `/v1/` and the parts; none of them can leave its place.
    fn url(&self, parts: &[&str]) -> Result<Url, SecretError> {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        let segments = parts.iter().flat_map(|part| part.split('/')).filter(|segment| !segment.is_empty());
        match url.path_segments_mut() {
            Ok(mut path) => drop(path.pop_if_empty().push("v1").extend(segments)),
            Err(()) => return Err(SecretError::Configuration("Vault's URL cannot have a path".into())),
        }
        Ok(url)
    }
}

fn refusal(reply: &Reply, doing: &str) -> SecretError {
    let errors = reply.json();
    let errors = errors["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let errors = printable(&errors.collect::<Vec<_>>().join(", "));
    let text = match errors.as_str() {
        "" => format!("{doing}: {}", reply.status),
        errors => format!("{doing}: {}: {errors}", reply.status),
    };
    match reply.status.as_u16() {
        500.. => SecretError::External(text),
        400 | 401 | 403 | 404 => SecretError::Configuration(text),
        _ => SecretError::Other(text),
    }
}
