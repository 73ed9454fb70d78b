//! Stand-ins for whoever keeps secrets: a Vault, and AWS' STS and Secrets Manager. They refuse what the real ones refuse.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tiny_http::{Answer, Request, serve};

const VAULT_TOKEN: &str = "hvs.the-token-of-a-session";
pub const ROLE: &str = "arn:aws:iam::123456789012:role/reader";
const ACCESS_KEY: &str = "ASIAEXAMPLEEXAMPLE";
const SECRET_KEY: &str = "secret/key+of+a+session";
const SESSION: &str = "session+token/with==odd+letters";

/// Starts a Vault whose first `failures` logins end in 503; returns its URL.
pub async fn vault(failures: usize) -> String {
    let left = AtomicUsize::new(failures);
    let address = serve(move |request| {
        let log_in = request.path == "/v1/auth/gitlab/login";
        if log_in && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return errors(503, "Vault is sealed");
        }
        match log_in {
            true => vault_log_in(&request),
            false => vault_read(&request),
        }
    });
    format!("http://{}", address.await)
}

fn vault_log_in(request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(claims) = body["jwt"].as_str().and_then(claims) else {
        return errors(400, "error parsing token: go-jose: compact JWS format must have three parts");
    };
    if request.method != "POST" || request.header("X-Vault-Request") != Some("true") {
        return errors(400, "missing required header");
    }
    if body["role"] != "deploy" {
        return errors(400, "role \"other\" could not be found");
    }
    if claims["aud"] != "https://vault.test" {
        return errors(
            400,
            "error validating token: invalid audience (aud) claim: audience claim does not match any bound audience",
        );
    }
    if claims["project_path"] != "group/app" || !is_current(&claims) {
        return errors(400, "error validating claims");
    }
    answer(200, &json!({"auth": {"client_token": VAULT_TOKEN, "policies": ["default"]}}))
}

fn vault_read(request: &Request) -> Answer {
    if request.method != "GET" || request.header("X-Vault-Token") != Some(VAULT_TOKEN) {
        return errors(403, "permission denied");
    }
    let fields = json!({"password": "hunter2 of the vault", "port": 5432, "other": "nobody asked"});
    match request.path.as_str() {
        "/v1/ops/data/production/db" => answer(200, &json!({"data": {"data": fields, "metadata": {"version": 3}}})),
        "/v1/old/production/db" => answer(200, &json!({"data": fields})),
        "/v1/space/data/in%20space" if request.header("X-Vault-Namespace") == Some("team") => {
            answer(200, &json!({"data": {"data": fields}}))
        }
        "/v1/ops/data/odd" => answer(200, &json!(["not", "an", "object"])),
        "/v1/ops/data/down" => errors(502, "upstream"),
        "/v1/ops/data/forbidden" => errors(403, "1 error occurred: permission denied"),
        _ => answer(404, &json!({"errors": []})),
    }
}

/// Starts STS and Secrets Manager at one address; returns its URL.
pub async fn aws() -> String {
    let address = serve(|request| match request.header("X-Amz-Target") {
        None => sts(&request),
        Some("secretsmanager.GetSecretValue") => secrets_manager(&request),
        Some(_) => amz(400, "UnknownOperationException", ""),
    });
    format!("http://{}", address.await)
}

fn sts(request: &Request) -> Answer {
    let refuse = |code: &str, message: &str| Answer::Response {
        status: 400,
        headers: Vec::new(),
        body: format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        ),
    };
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let is_form = request.header("Content-Type") == Some("application/x-www-form-urlencoded");
    if request.method != "POST" || !is_form || request.header("Authorization").is_some() {
        return refuse("MissingAction", "");
    }
    if (field("Action"), field("Version")) != ("AssumeRoleWithWebIdentity", "2011-06-15") {
        return refuse("InvalidAction", "Could not find operation");
    }
    let name = field("RoleSessionName");
    if name.len() < 2 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=,.@-".contains(&b)) {
        return refuse("ValidationError", "RoleSessionName");
    }
    let Some(claims) = claims(field("WebIdentityToken")) else {
        return refuse("InvalidIdentityToken", "The ID Token provided is not a valid JWT.");
    };
    if claims["aud"] != "sts.amazonaws.com" || !is_current(&claims) {
        return refuse("InvalidIdentityToken", "Incorrect token audience");
    }
    if field("RoleArn") != ROLE {
        return refuse("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    }
    let body = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
         <SessionToken>{SESSION}</SessionToken></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    );
    Answer::Response { status: 200, headers: Vec::new(), body }
}

fn secrets_manager(request: &Request) -> Answer {
    if let Err(why) = verify(request) {
        return amz(400, "InvalidSignatureException", why);
    }
    let wish: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match (wish["SecretId"].as_str().unwrap_or_default(), wish["VersionStage"].as_str(), wish["VersionId"].as_str()) {
        ("app/db", None, None) => {
            let text = json!({"password": "hunter2 of aws", "port": 5432, "list": [1]}).to_string();
            answer(200, &json!({"Name": "app/db", "SecretString": text}))
        }
        ("app/db", Some("AWSPREVIOUS"), None) => {
            answer(200, &json!({"SecretString": "{\"password\": \"hunter1 of aws\"}"}))
        }
        ("app/bytes", ..) => answer(200, &json!({"SecretBinary": STANDARD.encode("hunter2 in bytes")})),
        ("app/forbidden", ..) => amz(400, "AccessDeniedException", "User is not authorized to perform GetSecretValue"),
        ("app/down", ..) => amz(500, "InternalServiceError", "An error occurred on the server side"),
        _ => amz(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
    }
}

/// Signature Version 4, as the receiver computes it.
fn verify(request: &Request) -> Result<(), &'static str> {
    let header = |name: &str| request.header(name).ok_or("a header is missing");
    if header("X-Amz-Security-Token")? != SESSION {
        return Err("The security token included in the request is invalid");
    }
    let given = header("Authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let part = |name: &str| {
        let parts = given.split(", ").find_map(|part| part.strip_prefix(name));
        parts.ok_or("the authorization is not whole")
    };
    let (credential, names, signature) = (part("Credential=")?, part("SignedHeaders=")?, part("Signature=")?);
    let date = header("X-Amz-Date")?;
    let scope = format!("{}/eu-west-1/secretsmanager/aws4_request", date.get(..8).ok_or("no date")?);
    if credential != format!("{ACCESS_KEY}/{scope}") {
        return Err("Credential should be scoped to a valid region");
    }
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).map_err(|_| "no date")?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| "no date")?.timestamp();
    if jiff::Timestamp::now().duration_since(at).abs() > jiff::SignedDuration::from_mins(5) {
        return Err("Signature expired");
    }
    for needed in ["host", "x-amz-date", "x-amz-security-token"] {
        if !names.split(';').any(|name| name == needed) {
            return Err("a header has to be signed");
        }
    }
    let mut headers = String::new();
    for name in names.split(';') {
        headers.push_str(&format!("{name}:{}\n", header(name)?));
    }
    let body = hex::encode(Sha256::digest(&request.body));
    let canonical = format!("{}\n{}\n\n{headers}\n{names}\n{body}", request.method, request.path);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in scope.split('/').chain([text.as_str()]) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "no key")?;
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    if hex::encode(key) == signature { Ok(()) } else { Err("The request signature we calculated does not match") }
}

fn claims(token: &str) -> Option<Value> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { return None };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let header: Value = serde_json::from_slice(&decoded(header)?).ok()?;
    (header["alg"] == "RS256" && decoded(signature)?.len() == 256).then_some(())?;
    serde_json::from_slice(&decoded(claims)?).ok()
}

fn is_current(claims: &Value) -> bool {
    let now = jiff::Timestamp::now().as_second();
    claims["nbf"].as_i64().is_some_and(|from| from <= now) && claims["exp"].as_i64().is_some_and(|until| until > now)
}

fn errors(status: u16, text: &str) -> Answer {
    answer(status, &json!({"errors": [text]}))
}

fn amz(status: u16, code: &str, message: &str) -> Answer {
    answer(status, &json!({"__type": format!("com.amazonaws.secretsmanager#{code}"), "message": message}))
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer::Response { status, headers: Vec::new(), body: body.to_string() }
}
