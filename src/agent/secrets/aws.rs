//! Reads secrets of AWS Secrets Manager as the role that the job's token may assume: STS takes the token unsigned, the rest
//! is one signed request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use jiff::Timestamp;
use reqwest::Client;
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::gitlab::AwsSecret;

use super::error::SecretError;
use super::reply::{Reply, printable, send, text};
use super::sigv4::{Session, Signed, amz_date, authorization};

const JSON: &str = "application/x-amz-json-1.1";
const GET_SECRET_VALUE: &str = "secretsmanager.GetSecretValue";

/// Where AWS is asked, if not at its own endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoints {
    pub sts: Option<String>,
    pub secrets_manager: Option<String>,
}

/// The value of `secret`, whose texts are expanded; `None` if there is no such secret, or no such field.
pub(super) async fn read(
    http: &Client,
    secret: &AwsSecret,
    endpoints: &Endpoints,
    session_name: &str,
) -> Result<Option<String>, SecretError> {
    let wrong = |text: &str| Err(SecretError::Configuration(text.to_owned()));
    let first = |own: &str, server: &str| if own.is_empty() { server.to_owned() } else { own.to_owned() };
    let region = first(&secret.region, &secret.server.region);
    let role = first(&secret.role_arn, &secret.server.role_arn);
    let session_name = first(&first(&secret.role_session_name, &secret.server.role_session_name), session_name);
    if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return wrong("AWS Secrets Manager has no region: write `region:`, or set the CI/CD variable `AWS_REGION`");
    }
    if role.is_empty() {
        return wrong(
            "there is no role to read AWS Secrets Manager as: write `role_arn:`, or set the CI/CD variable `AWS_ROLE_ARN`; \
             tasks have no role of their own",
        );
    }
    if secret.server.jwt.is_empty() {
        return wrong("the job has no token for AWS: name one by `token:`, and define it under `id_tokens:`");
    }
    let aws = Aws { http, region: &region, endpoints };
    let session = aws.assume(&role, &session_name, &secret.server.jwt).await?;
    let Some(value) = aws.value(secret, &session).await? else { return Ok(None) };
    if secret.field.is_empty() {
        return Ok(Some(value));
    }
    let id = printable(&secret.secret_id);
    let Ok(fields) = serde_json::from_str::<Value>(&value) else {
        return Err(SecretError::Configuration(format!("failed to parse JSON for secret '{id}'")));
    };
    match fields.get(&secret.field) {
        None => Ok(None),
        Some(field @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(text(field)),
        Some(_) => {
            let field = printable(&secret.field);
            let text = format!("key '{field}' of secret '{id}' is not a string, number or boolean");
            Err(SecretError::Configuration(text))
        }
    }
}

struct Aws<'a> {
    http: &'a Client,
    region: &'a str,
    endpoints: &'a Endpoints,
}

impl Aws<'_> {
    /// The session of the role that the token may assume.
    async fn assume(&self, role: &str, session_name: &str, token: &str) -> Result<Session, SecretError> {
        let url = self.url(self.endpoints.sts.as_deref(), "sts")?;
        let form = Serializer::new(String::new())
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", role)
            .append_pair("RoleSessionName", session_name)
            .append_pair("WebIdentityToken", token)
            .append_pair("DurationSeconds", "900")
            .finish();
        let request = self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let reply = send(request, "AWS STS").await?;
        let xml = String::from_utf8_lossy(&reply.body);
        if !reply.status.is_success() {
            let text = said("AWS STS", &reply, element(&xml, "Code"), element(&xml, "Message"));
            return Err(match reply.status.as_u16() {
                500.. => SecretError::External(text),
                _ => SecretError::Other(text),
            });
        }
        let element = |name: &str| element(&xml, name).filter(|text| !text.is_empty());
        match (element("AccessKeyId"), element("SecretAccessKey"), element("SessionToken")) {
            (Some(access_key), Some(secret_key), Some(token)) => {
                Ok(Session { access_key, secret_key: secret_key.into(), token: token.into() })
            }
            _ => Err(SecretError::Other("AWS STS lets the job in without credentials".into())),
        }
    }

    async fn value(&self, secret: &AwsSecret, session: &Session) -> Result<Option<String>, SecretError> {
        use secrecy::ExposeSecret;
        let url = self.url(self.endpoints.secrets_manager.as_deref(), "secretsmanager")?;
        let mut wish = json!({ "SecretId": secret.secret_id });
        for (name, value) in [("VersionId", &secret.version_id), ("VersionStage", &secret.version_stage)] {
            if !value.is_empty() {
                wish[name] = value.as_str().into();
            }
        }
        let body = wish.to_string();
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let date = amz_date(Timestamp::now());
        let headers = [
            ("content-type", JSON),
            ("host", host.as_str()),
            ("x-amz-date", date.as_str()),
            ("x-amz-security-token", session.token.expose_secret()),
            ("x-amz-target", GET_SECRET_VALUE),
        ];
        let signed = Signed {
            method: "POST",
            path: url.path(),
            query: "",
            headers: &headers,
            body: body.as_bytes(),
            region: self.region,
            service: "secretsmanager",
        };
        let authorization = authorization(&signed, session, &date);
        let request = self.http.post(url.clone()).header(AUTHORIZATION, authorization);
        let own = headers.iter().filter(|(name, _)| *name != "host");
        let request = own.fold(request, |request, (name, value)| request.header(*name, *value)).body(body);
        let reply = send(request, "AWS Secrets Manager").await?;
        let json = reply.json();
        if !reply.status.is_success() {
            return refusal(&reply, &json);
        }
        if let Some(text) = json["SecretString"].as_str() {
            return Ok(Some(text.to_owned()));
        }
        let bytes = json["SecretBinary"].as_str().and_then(|text| STANDARD.decode(text).ok());
        match bytes.map(String::from_utf8) {
            Some(Ok(text)) => Ok(Some(text)),
            _ => Err(SecretError::Configuration("the secret is no text, and a variable holds nothing else".into())),
        }
    }

    fn url(&self, endpoint: Option<&str>, service: &str) -> Result<Url, SecretError> {
        let suffix = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let own = format!("https://{service}.{}.{suffix}/", self.region);
        let text = endpoint.filter(|endpoint| !endpoint.is_empty()).unwrap_or(&own);
        let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| SecretError::Configuration(format!("the endpoint of `{service}` is no http or https URL")))
    }
}

fn refusal(reply: &Reply, json: &Value) -> Result<Option<String>, SecretError> {
    let code = json["__type"].as_str().map(|code| code.rsplit('#').next().unwrap_or(code));
    if code == Some("ResourceNotFoundException") {
        return Ok(None);
    }
    let message = json["message"].as_str().or_else(|| json["Message"].as_str());
    let text = said("AWS Secrets Manager", reply, code.map(str::to_owned), message.map(str::to_owned));
    Err(match (reply.status.as_u16(), code) {
        (500.., _) => SecretError::External(text),
        (_, Some("AccessDeniedException")) => SecretError::Configuration(text),
        _ => SecretError::Other(text),
    })
}

fn said(who: &str, reply: &Reply, code: Option<String>, message: Option<String>) -> String {
    let code = code.unwrap_or_else(|| reply.status.to_string());
    match message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{who}: {}: {}", printable(&code), printable(&message)),
        None => format!("{who}: {}", printable(&code)),
    }
}

/// The text of the first element `name`: STS' answers are flat where it matters, and their values hold no markup.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    Some(text.replace("&amp;", "&").trim().to_owned())
}
