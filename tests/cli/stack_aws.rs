//! IAM, Secrets Manager and SQS, as far as `mayfly sandbox` uses those of a stack.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub const ROLE: &str = "arn:aws:iam::123456789012:role/stack/dispatcher";
pub const SECRET: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:launch-key-a1b2c3";

/// The three services on one port. Every role has the path `/stack/`, one inline and one attached policy.
pub struct StackAws {
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// By the role's name: the inline and the attached policy.
    policies: Mutex<HashMap<String, [Value; 2]>>,
    messages: Mutex<Vec<Value>>,
}

impl StackAws {
    pub async fn start() -> StackAws {
        let shared = Arc::<Shared>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        StackAws { url, shared }
    }

    /// Sets the statements of a role.
    pub fn set(&self, role: &str, inline: Value, attached: Value) {
        self.shared.policies.lock().expect("no panic").insert(role.to_owned(), [inline, attached]);
    }

    /// The bodies of all messages.
    pub fn messages(&self) -> Vec<Value> {
        self.shared.messages.lock().expect("no panic").clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    match target {
        "secretsmanager.GetSecretValue" if json["SecretId"] == SECRET => {
            json!({"SecretString": "s3cret"}).to_string().into_response()
        }
        "AmazonSQS.SendMessage" => {
            let text = json["MessageBody"].as_str().unwrap_or_default();
            shared.messages.lock().expect("no panic").push(serde_json::from_str(text).expect("JSON"));
            json!({"MessageId": "1", "MD5OfMessageBody": "x"}).to_string().into_response()
        }
        "" => iam(&shared, &url::form_urlencoded::parse(&body).into_owned().collect()),
        other => (StatusCode::NOT_IMPLEMENTED, other.to_owned()).into_response(),
    }
}

/// IAM speaks XML, with policies in percent-encoding.
fn iam(shared: &Shared, form: &HashMap<String, String>) -> Response {
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let (action, mut role) = (field("Action"), field("RoleName"));
    if let Some(name) = field("PolicyArn").rsplit('/').next().filter(|name| !name.is_empty()) {
        name.clone_into(&mut role);
    }
    let policies = shared.policies.lock().expect("no panic").get(&role).cloned();
    let Some([inline, attached]) = policies else {
        let error = "<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchEntity</Code></Error></ErrorResponse>";
        return (StatusCode::NOT_FOUND, error).into_response();
    };
    let document = |statements: &Value| {
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
    };
    let trust =
        json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ecs-tasks.amazonaws.com"}});
    let arn = format!("arn:aws:iam::123456789012:policy/{role}");
    let time = "<CreateDate>2026-11-21T02:00:00Z</CreateDate>";
    let result = match action.as_str() {
        "GetRole" => format!(
            "<Role><Path>/stack/</Path><RoleName>{role}</RoleName><RoleId>AROA1</RoleId>{time}\
             <Arn>arn:aws:iam::123456789012:role/stack/{role}</Arn>\
             <AssumeRolePolicyDocument>{}</AssumeRolePolicyDocument></Role>",
            document(&trust)
        ),
        "ListRolePolicies" => {
            "<PolicyNames><member>inline</member></PolicyNames><IsTruncated>false</IsTruncated>".into()
        }
        "GetRolePolicy" => format!(
            "<RoleName>{role}</RoleName><PolicyName>inline</PolicyName><PolicyDocument>{}</PolicyDocument>",
            document(&inline)
        ),
        "ListAttachedRolePolicies" => format!(
            "<AttachedPolicies><member><PolicyName>attached</PolicyName><PolicyArn>{arn}</PolicyArn></member>\
             </AttachedPolicies><IsTruncated>false</IsTruncated>"
        ),
        "GetPolicy" => format!("<Policy><Arn>{arn}</Arn><DefaultVersionId>v2</DefaultVersionId></Policy>"),
        "GetPolicyVersion" if field("VersionId") == "v2" => format!(
            "<PolicyVersion><Document>{}</Document><VersionId>v2</VersionId></PolicyVersion>",
            document(&attached)
        ),
        other => return (StatusCode::NOT_IMPLEMENTED, other.to_owned()).into_response(),
    };
    let body = format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>");
    ([("content-type", "text/xml")], body).into_response()
}
