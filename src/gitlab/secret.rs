//! Reads a job's `secrets:`: where each lies, and how it is asked for (runner-behaviour.md Appendix A).
//!
//! All texts are as sent: variables in them are expanded by whoever resolves them.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// One secret of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The variable that gets it.
    pub name: String,
    /// Where it lies.
    pub source: SecretSource,
    /// The variable is the path of a file with it.
    pub file: bool,
}

/// Where a secret lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// HashiCorp Vault, or OpenBao.
    Vault(VaultSecret),
    /// AWS Secrets Manager.
    AwsSecretsManager(AwsSecret),
    /// Somewhere that we do not ask: GitLab's keyword for it.
    Other(String),
}

/// A field of a secret in Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VaultSecret {
    /// Which Vault, and who we are to it.
    #[serde(deserialize_with = "or_default")]
    pub server: VaultServer,
    /// Which engine.
    #[serde(deserialize_with = "or_default")]
    pub engine: VaultEngine,
    /// Its path in the engine.
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    /// The field.
    #[serde(deserialize_with = "or_default")]
    pub field: String,
}

/// A Vault, and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VaultServer {
    /// Its URL.
    #[serde(deserialize_with = "or_default")]
    pub url: String,
    /// Its namespace; none if empty.
    #[serde(deserialize_with = "or_default")]
    pub namespace: String,
    /// How we say who we are.
    #[serde(deserialize_with = "or_default")]
    pub auth: VaultAuth,
}

/// How we say who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VaultAuth {
    /// `jwt`; GitLab knows no other.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Where the method is mounted.
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    /// What it is told.
    #[serde(deserialize_with = "or_default")]
    pub data: VaultAuthData,
}

/// What the method `jwt` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VaultAuthData {
    /// The job's token, as a reference to the variable that holds it.
    #[serde(deserialize_with = "or_default")]
    pub jwt: String,
    /// The role; the method's default if empty.
    #[serde(deserialize_with = "or_default")]
    pub role: String,
}

/// An engine of Vault's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VaultEngine {
    /// `kv-v1`, `kv-v2` or `generic`.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Where it is mounted.
    #[serde(deserialize_with = "or_default")]
    pub path: String,
}

/// A secret in AWS Secrets Manager, or a field of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AwsSecret {
    /// Its name or ARN.
    #[serde(deserialize_with = "or_default")]
    pub secret_id: String,
    /// One version.
    #[serde(deserialize_with = "or_default")]
    pub version_id: String,
    /// The version with this label.
    #[serde(deserialize_with = "or_default")]
    pub version_stage: String,
    /// The field of a secret that is a JSON object; the whole secret if empty.
    #[serde(deserialize_with = "or_default")]
    pub field: String,
    /// Wins over the server's.
    #[serde(deserialize_with = "or_default")]
    pub region: String,
    /// Wins over the server's.
    #[serde(deserialize_with = "or_default")]
    pub role_arn: String,
    /// Wins over the server's.
    #[serde(deserialize_with = "or_default")]
    pub role_session_name: String,
    /// What holds for all secrets of the project.
    #[serde(deserialize_with = "or_default")]
    pub server: AwsServer,
}

/// Where secrets lie, and as whom they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AwsServer {
    /// The region.
    #[serde(deserialize_with = "or_default")]
    pub region: String,
    /// The job's token, as a reference to the variable that holds it.
    #[serde(deserialize_with = "or_default")]
    pub jwt: String,
    /// The role that the token assumes.
    #[serde(deserialize_with = "or_default")]
    pub role_arn: String,
    /// What the session is called in AWS' logs.
    #[serde(deserialize_with = "or_default")]
    pub role_session_name: String,
}

impl Secret {
    /// Reads the secret that becomes variable `name`.
    ///
    /// # Errors
    /// A sentence without values, when it has a shape that nobody knows.
    pub(super) fn read(name: &str, value: Value) -> Result<Secret, String> {
        let Value::Object(mut fields) = value else { return Err("an object".into()) };
        let file = match fields.remove("file") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(file)) => file,
            Some(_) => return Err("`file` as true or false".into()),
        };
        Ok(Secret { name: name.to_owned(), source: SecretSource::read(fields)?, file })
    }
}

impl SecretSource {
    /// GitLab's keyword for it.
    pub fn keyword(&self) -> &str {
        match self {
            SecretSource::Vault(_) => "vault",
            SecretSource::AwsSecretsManager(_) => "aws_secrets_manager",
            SecretSource::Other(keyword) => keyword,
        }
    }

    fn read(fields: Map<String, Value>) -> Result<SecretSource, String> {
        let Some((keyword, value)) = fields.into_iter().find(|(_, value)| !value.is_null()) else {
            return Err("a place where it lies".into());
        };
        // The reader's own message would quote the value.
        let wrong = |_| format!("another shape in `{keyword}`");
        Ok(match keyword.as_str() {
            "vault" => SecretSource::Vault(serde_json::from_value(value).map_err(wrong)?),
            "aws_secrets_manager" => SecretSource::AwsSecretsManager(serde_json::from_value(value).map_err(wrong)?),
            _ => SecretSource::Other(keyword),
        })
    }
}

/// `null` is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_read_as_gitlab_sends_them() {
        let vault = json!({"vault": {
            "server": {"url": "https://v", "namespace": null,
                "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "${T}", "role": "r"}}},
            "engine": {"name": "kv-v2", "path": "ops"}, "path": "p/q", "field": "f",
        }, "gcp_secret_manager": null, "file": false});
        let secret = Secret::read("A", vault).unwrap();
        assert!(!secret.file);
        let SecretSource::Vault(vault) = secret.source else { panic!("{secret:?}") };
        assert_eq!((vault.server.auth.data.jwt.as_str(), vault.server.namespace.as_str()), ("${T}", ""));
        assert_eq!((vault.engine.name.as_str(), vault.path.as_str()), ("kv-v2", "p/q"));

        let aws = json!({"aws_secrets_manager": {"secret_id": "s", "server": {"region": "eu-west-1", "jwt": "${T}"}}});
        let secret = Secret::read("A", aws).unwrap();
        assert!(secret.file);
        assert_eq!(secret.source.keyword(), "aws_secrets_manager");
        let other = Secret::read("A", json!({"azure_key_vault": {"name": "x"}})).unwrap();
        assert_eq!(other.source, SecretSource::Other("azure_key_vault".into()));
    }

    #[test]
    fn an_unknown_shape_is_told_without_its_values() {
        for value in [json!("hunter2"), json!({}), json!({"vault": "hunter2"}), json!({"file": "hunter2", "vault": {}})]
        {
            let error = Secret::read("A", value).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
