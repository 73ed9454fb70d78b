//! The stage resolve_secrets: every secret becomes a masked variable, before anything else of the job happens
//! (runner-behaviour.md §1.1, §3.7).

use reqwest::Client;

use crate::agent::attempts::attempts;
use crate::agent::context::{Context, StageError};
use crate::agent::setup::trust;
use crate::gitlab::{
    AwsSecret, FailureReason, Secret, SecretSource, Sender, Variable, Variables, VaultSecret, http_client_with,
};

use super::aws::{self, Endpoints};
use super::error::SecretError;
use super::vault;

/// The job's secrets as variables; nothing is said where it has none.
pub(in crate::agent) async fn resolve_secrets(context: &Context) -> Result<Vec<Variable>, StageError> {
    if context.job.secrets.is_empty() {
        return Ok(Vec::new());
    }
    let _section = context.log.section("resolve_secrets", "Resolving secrets");
    // What is damaged was told before.
    let (trust, _) = trust(&context.variables);
    let http = http_client_with(Sender::Helper, &trust, |builder| builder)
        .map_err(|error| StageError::new(FailureReason::RunnerSystemFailure, format!("resolving secrets: {error}")))?;
    let resolver = Resolver { context, http, variables: context.variables.clone() };
    let mut pauses = attempts(context, "SECRETS_RETRIEVAL_ATTEMPTS");
    loop {
        let error = match resolver.all().await {
            Ok(variables) => return Ok(variables),
            Err(error) => error,
        };
        let Some(pause) = pauses.pause(None) else { return Err(error.into_stage()) };
        context.log.runner_warning(&format!("Resolving secrets failed: {error}. Retrying..."));
        tokio::time::sleep(pause).await;
    }
}

struct Resolver<'a> {
    context: &'a Context,
    http: Client,
    /// Expanded.
    variables: Variables,
}

impl Resolver<'_> {
    async fn all(&self) -> Result<Vec<Variable>, SecretError> {
        let mut variables = Vec::new();
        for secret in &self.context.job.secrets {
            self.context.log.line(&format!("Resolving secret {:?}...", secret.name));
            self.context.log.line(&format!("Using {:?} secret resolver...", secret.source.keyword()));
            let value = match self.value(secret).await? {
                Some(value) => value,
                None if self.variables.flag("FF_SECRET_RESOLVING_FAILS_IF_MISSING", true) => {
                    return Err(SecretError::NotFound(secret.name.clone()));
                }
                None => String::new(),
            };
            variables.push(Variable {
                key: secret.name.clone(),
                value,
                public: false,
                masked: true,
                file: secret.file,
                raw: true,
            });
        }
        Ok(variables)
    }

    async fn value(&self, secret: &Secret) -> Result<Option<String>, SecretError> {
        match &secret.source {
            SecretSource::Vault(secret) => vault::read(&self.http, &self.vault(secret)).await,
            SecretSource::AwsSecretsManager(secret) => {
                let endpoint = |service: &str| {
                    let names = [format!("AWS_ENDPOINT_URL_{service}"), "AWS_ENDPOINT_URL".to_owned()];
                    names.iter().find_map(|name| self.variables.get(name)).map(str::to_owned)
                };
                let endpoints = Endpoints { sts: endpoint("STS"), secrets_manager: endpoint("SECRETS_MANAGER") };
                let session = format!("gitlab-job-{}", self.context.job.id);
                aws::read(&self.http, &self.aws(secret), &endpoints, &session).await
            }
            SecretSource::Other(keyword) => Err(SecretError::Configuration(format!("nobody here knows `{keyword}`"))),
        }
    }

    fn vault(&self, secret: &VaultSecret) -> VaultSecret {
        let mut secret = secret.clone();
        let (server, engine) = (&mut secret.server, &mut secret.engine);
        let auth = &mut server.auth;
        for text in [&mut server.url, &mut server.namespace, &mut auth.name, &mut auth.path, &mut auth.data.jwt] {
            *text = self.variables.expand(text);
        }
        for text in [&mut auth.data.role, &mut engine.name, &mut engine.path, &mut secret.path, &mut secret.field] {
            *text = self.variables.expand(text);
        }
        secret
    }

    fn aws(&self, secret: &AwsSecret) -> AwsSecret {
        let mut secret = secret.clone();
        for text in [&mut secret.secret_id, &mut secret.version_id, &mut secret.version_stage, &mut secret.field] {
            *text = self.variables.expand(text);
        }
        for text in [&mut secret.region, &mut secret.role_arn, &mut secret.role_session_name] {
            *text = self.variables.expand(text);
        }
        let server = &mut secret.server;
        for text in [&mut server.region, &mut server.jwt, &mut server.role_arn, &mut server.role_session_name] {
            *text = self.variables.expand(text);
        }
        secret
    }
}
