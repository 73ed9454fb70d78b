//! `id_tokens:` and `secrets:`: who a job is to others, and what it is told by them.

use crate::keepers::{ROLE, aws, vault};
use crate::run::jobs;

#[tokio::test(flavor = "multi_thread")]
async fn id_tokens_are_masked_variables_for_their_audience() {
    let jobs = jobs(
        "
default:
  id_tokens: {DEFAULT_TOKEN: {aud: 'https://$WHO.test'}}
variables: {WHO: vault}
tokens:
  id_tokens: {ONE: {aud: sts.amazonaws.com}, TWO: {aud: [a, b]}}
  script:
    - 'test -z \"$DEFAULT_TOKEN\"'
    - 'echo \"shown: <$ONE>\"'
    - 'claims() { echo \"$1\" | cut -d. -f2 | tr _- /+ | base64 -d 2>/dev/null || true; }'
    - 'claims \"$ONE\" | grep -o \"\\\"aud\\\":\\\"[^\\\"]*\\\"\"'
    - 'claims \"$TWO\" | grep -o \"\\\"aud\\\":[^]]*]\"'
    - 'claims \"$ONE\" | grep -o \"\\\"sub\\\":\\\"[^\\\"]*\\\"\"'
inherited:
  script:
    - 'echo \"$DEFAULT_TOKEN\" | cut -d. -f2 | tr _- /+ | (base64 -d 2>/dev/null || true) | grep -o \"https://vault.test\"'
",
    )
    .await;
    jobs["tokens"].passed().says(&[
        "O shown: <[MASKED]>",
        r#"O "aud":"sts.amazonaws.com""#,
        r#"O "aud":["a","b"]"#,
        r#"O "sub":"project_path:group/app:ref_type:branch:ref:main""#,
    ]);
    jobs["inherited"].passed().says(&["O https://vault.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_vault_are_read_with_the_jobs_token() {
    let vault = vault(0).await;
    let jobs = jobs(&format!(
        "
variables: {{VAULT_SERVER_URL: '{vault}/', VAULT_AUTH_PATH: gitlab, VAULT_AUTH_ROLE: deploy, WHERE: production}}
default:
  id_tokens: {{VAULT_TOKEN: {{aud: 'https://vault.test'}}}}
read:
  variables: {{DSN: 'postgres://u:$PASSWORD@db'}}
  secrets:
    FILE: {{vault: $WHERE/db/password@ops}}
    PASSWORD: {{vault: production/db/password@ops, file: false, token: $VAULT_TOKEN}}
    OLD: {{vault: {{engine: {{name: kv-v1, path: old}}, path: production/db, field: port}}, file: false}}
  script:
    - 'test \"$PASSWORD\" = \"hunter2 of the vault\" && test \"$OLD\" = 5432'
    - 'test \"$(cat $FILE)\" = \"hunter2 of the vault\" && test \"$DSN\" = \"postgres://u:hunter2 of the vault@db\"'
    - 'echo \"shown: <$PASSWORD> <$(cat $FILE)>\"'
space:
  variables: {{VAULT_NAMESPACE: team}}
  secrets: {{A: {{vault: 'in space/password@space', file: false}}}}
  script: ['test \"$A\" = \"hunter2 of the vault\"']
audience:
  id_tokens: {{VAULT_TOKEN: {{aud: 'https://other.test'}}}}
  secrets: {{A: {{vault: production/db/password@ops}}}}
  script: [echo ran]
field: {{secrets: {{A: {{vault: production/db/nope@ops}}}}, script: [echo ran], after_script: [echo ran]}}
lenient:
  variables: {{FF_SECRET_RESOLVING_FAILS_IF_MISSING: 'false'}}
  secrets: {{A: {{vault: production/nope/x@ops, file: false}}}}
  script: ['test -z \"$A\"']
odd: {{secrets: {{A: {{vault: odd/x@ops}}}}, script: [echo ran]}}
forbidden: {{secrets: {{A: {{vault: forbidden/x@ops}}}}, script: [echo ran]}}
down: {{secrets: {{A: {{vault: down/x@ops}}}}, script: [echo ran]}}
away: {{variables: {{VAULT_SERVER_URL: 'http://127.0.0.1:1'}}, secrets: {{A: {{vault: a/x@ops}}}}, script: [echo ran]}}
no_token: {{id_tokens: {{A: {{aud: a}}, B: {{aud: b}}}}, secrets: {{A: {{vault: a/x@ops}}}}, script: [echo ran]}}
"
    ))
    .await;
    jobs["read"]
        .passed()
        .says(&[
            "Resolving secrets",
            "Resolving secret \"FILE\"...",
            "Using \"vault\" secret resolver...",
            "Resolving secret \"PASSWORD\"...",
            "Preparing environment",
            "O shown: <[MASKED]> <[MASKED]>",
        ])
        .never_says(&["hunter2", "hvs."]);
    jobs["space"].passed();
    jobs["lenient"].passed();
    for (job, reason, said) in [
        (
            "audience",
            "runner_configuration_error",
            "resolving secrets: authenticating Vault client: 400 Bad Request: error",
        ),
        ("field", "runner_configuration_error", "ERROR: Job failed: resolving secrets: secret not found: A"),
        ("odd", "runner_configuration_error", "resolving secrets: secret not found: A"),
        ("forbidden", "runner_configuration_error", "403 Forbidden: 1 error occurred: permission denied"),
        ("down", "runner_external_dependency_failure", "502 Bad Gateway: upstream"),
        ("away", "runner_external_dependency_failure", "Vault does not answer"),
        ("no_token", "runner_configuration_error", "the job has no token for Vault: name one by `token:`"),
    ] {
        jobs[job].failed(reason).says(&[said]).never_says(&["O ran", "Preparing environment"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_aws_are_read_as_the_role_that_the_jobs_token_assumes() {
    let aws = aws().await;
    let jobs = jobs(&format!(
        "
variables: {{AWS_ENDPOINT_URL: '{aws}', AWS_REGION: eu-west-1, AWS_ROLE_ARN: '{ROLE}'}}
default:
  id_tokens: {{AWS_TOKEN: {{aud: sts.amazonaws.com}}}}
read:
  secrets:
    WHOLE: {{aws_secrets_manager: app/db}}
    PASSWORD: {{aws_secrets_manager: {{secret_id: app/db, field: password}}, file: false}}
    PORT: {{aws_secrets_manager: {{secret_id: app/db, field: port}}, file: false, token: $AWS_TOKEN}}
    BEFORE: {{aws_secrets_manager: {{secret_id: app/db, version_stage: AWSPREVIOUS, field: password}}, file: false}}
    BYTES: {{aws_secrets_manager: app/bytes, file: false}}
  script:
    - 'test \"$PASSWORD\" = \"hunter2 of aws\" && test \"$PORT\" = 5432 && test \"$BEFORE\" = \"hunter1 of aws\"'
    - 'test \"$BYTES\" = \"hunter2 in bytes\" && grep -q \"hunter2 of aws\" \"$WHOLE\"'
    - 'echo \"shown: <$PASSWORD>\"'
own_role:
  variables: {{AWS_ROLE_ARN: other, AWS_REGION: other}}
  secrets: {{A: {{aws_secrets_manager: {{secret_id: app/bytes, region: eu-west-1, role_arn: '{ROLE}'}}}}}}
  script: [echo ran]
no_role: {{variables: {{AWS_ROLE_ARN: ''}}, secrets: {{A: {{aws_secrets_manager: app/db}}}}, script: [echo ran]}}
other_role: {{variables: {{AWS_ROLE_ARN: 'arn:x'}}, secrets: {{A: {{aws_secrets_manager: app/db}}}}, script: [echo ran]}}
missing: {{secrets: {{A: {{aws_secrets_manager: app/nope}}}}, script: [echo ran]}}
list: {{secrets: {{A: {{aws_secrets_manager: {{secret_id: app/db, field: list}}}}}}, script: [echo ran]}}
forbidden: {{secrets: {{A: {{aws_secrets_manager: app/forbidden}}}}, script: [echo ran]}}
down: {{secrets: {{A: {{aws_secrets_manager: app/down}}}}, script: [echo ran]}}
"
    ))
    .await;
    let said =
        ["Resolving secret \"WHOLE\"...", "Using \"aws_secrets_manager\" secret resolver...", "O shown: <[MASKED]>"];
    jobs["read"].passed().says(&said).never_says(&["hunter"]);
    jobs["own_role"].passed();
    for (job, reason, said) in [
        ("no_role", "runner_configuration_error", "there is no role to read AWS Secrets Manager as: write `role_arn:`"),
        ("other_role", "runner_system_failure", "AWS STS: AccessDenied: Not authorized to perform sts:AssumeRole"),
        ("missing", "runner_configuration_error", "resolving secrets: secret not found: A"),
        ("list", "runner_configuration_error", "key 'list' of secret 'app/db' is not a string, number or boolean"),
        (
            "forbidden",
            "runner_configuration_error",
            "AWS Secrets Manager: AccessDeniedException: User is not authorized",
        ),
        ("down", "runner_external_dependency_failure", "AWS Secrets Manager: InternalServiceError"),
    ] {
        jobs[job].failed(reason).says(&[said]).never_says(&["O ran"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_is_asked_as_often_as_the_job_wants() {
    let (patient, hasty) = (vault(1).await, vault(1).await);
    let jobs = jobs(&format!(
        "
variables: {{VAULT_AUTH_PATH: gitlab, VAULT_AUTH_ROLE: deploy, FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY: 'false'}}
default:
  id_tokens: {{VAULT_TOKEN: {{aud: 'https://vault.test'}}}}
patient:
  variables: {{VAULT_SERVER_URL: '{patient}', SECRETS_RETRIEVAL_ATTEMPTS: '2'}}
  secrets: {{A: {{vault: production/db/password@ops}}}}
  script: [echo ran]
hasty:
  variables: {{VAULT_SERVER_URL: '{hasty}'}}
  secrets: {{A: {{vault: production/db/password@ops}}}}
  script: [echo ran]
"
    ))
    .await;
    jobs["patient"].passed().says(&["WARNING: Resolving secrets failed", "Vault is sealed. Retrying...", "O ran"]);
    jobs["hasty"].failed("runner_external_dependency_failure").says(&["503 Service Unavailable: Vault is sealed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keepers_are_refused_by_name() {
    let jobs = jobs(
        "
default:
  id_tokens: {TOKEN: {aud: a}}
azure: {secrets: {A: {azure_key_vault: {name: x}, token: $TOKEN}}, script: [echo ran]}
gcp: {secrets: {A: {gcp_secret_manager: {name: x}, token: $TOKEN}}, script: [echo ran]}
gitlab: {secrets: {A: {gitlab_secrets_manager: {name: x}}}, script: [echo ran]}
",
    )
    .await;
    for (job, said) in [
        (
            "azure",
            "`secrets:azure_key_vault` is not supported by this runner (`A`): use `vault` or `aws_secrets_manager`",
        ),
        ("gcp", "`secrets:gcp_secret_manager` is not supported by this runner"),
        ("gitlab", "`secrets:gitlab_secrets_manager` is not supported by this runner"),
    ] {
        jobs[job].failed("runner_configuration_error").says(&[said]).never_says(&["O ran"]);
    }
}
