//! Reads policies of roles from IAM, which are cached for a second, and policies of buckets.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_iam::Client;
use aws_sdk_iam::error::{DisplayErrorContext, ProvideErrorMetadata};
use futures::FutureExt;
use sha2::{Digest, Sha256};

use crate::sandbox::ecs::{Asker, Principal, ReadBucketPolicy, ReadPolicies};

use super::clients::StackAws;

/// A changed policy takes effect within this time.
const FRESH: Duration = Duration::from_secs(1);

/// A function that calls ECS, and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    function: String,
    role: String,
}

impl FromStr for Caller {
    type Err = String;

    fn from_str(text: &str) -> Result<Caller, String> {
        let (function, role) = text.split_once('=').ok_or("give FUNCTION_ARN=ROLE_ARN")?;
        let is_arn = |arn: &str, service: &str| arn.starts_with("arn:") && arn.split(':').nth(2) == Some(service);
        match is_arn(function, "lambda") && is_arn(role, "iam") {
            true => Ok(Caller { function: function.to_owned(), role: role.to_owned() }),
            false => Err(format!("`{text}` is not the ARN of a function, `=`, and the ARN of a role")),
        }
    }
}

impl Caller {
    /// The access key that ministack gives the function: a hash of both ARNs.
    fn access_key(&self) -> String {
        let digest = hex::encode_upper(Sha256::digest(format!("{}:{}", self.function, self.role)));
        format!("ASIA{}", &digest[..16])
    }

    fn session(&self) -> &str {
        self.function.rsplit(':').next().unwrap_or_default()
    }
}

/// Reads the policies of `callers` and of roles from the IAM of `aws`.
pub fn policies(aws: &StackAws, callers: &[Caller]) -> ReadPolicies {
    let reader = Arc::new(Reader {
        iam: aws.iam(),
        callers: callers.iter().map(|caller| (caller.access_key(), caller.clone())).collect(),
        known: Mutex::default(),
    });
    Arc::new(move |asker| {
        let reader = Arc::clone(&reader);
        async move { reader.read(asker).await }.boxed()
    })
}

/// Reads the policies of buckets from the S3 of `aws`.
pub fn bucket_policies(aws: &StackAws) -> ReadBucketPolicy {
    let s3 = aws.s3();
    Arc::new(move |bucket| {
        let s3 = s3.clone();
        async move {
            match s3.get_bucket_policy().bucket(bucket).send().await {
                Ok(found) => Ok(found.policy),
                Err(error) if matches!(error.code(), Some("NoSuchBucketPolicy" | "NoSuchBucket")) => Ok(None),
                Err(error) => Err(failed(&error)),
            }
        }
        .boxed()
    })
}

struct Reader {
    iam: Client,
    callers: HashMap<String, Caller>,
    known: Mutex<HashMap<String, (Instant, Found)>>,
}

/// What IAM has of one role.
#[derive(Clone)]
struct Found {
    policies: Policies,
    trust: String,
}

/// Names and texts.
type Policies = Vec<(String, String)>;

impl Reader {
    async fn read(&self, asker: Asker) -> io::Result<Option<Principal>> {
        let (role, session) = match asker {
            Asker::Role(role) => (role, String::new()),
            Asker::AccessKey(key) => match self.callers.get(&key) {
                Some(caller) => (caller.role.clone(), caller.session().to_owned()),
                None => return Ok(None),
            },
        };
        let found = match self.known(&role) {
            Some(found) => Some(found),
            None => self.fetch(&role).await?,
        };
        Ok(found.map(|Found { policies, trust }| Principal { role, session, policies, trust }))
    }

    fn known(&self, role: &str) -> Option<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(role).filter(|(since, _)| since.elapsed() < FRESH).map(|(_, found)| found.clone())
    }

    async fn fetch(&self, role: &str) -> io::Result<Option<Found>> {
        // Before the reads: a change during them is seen a second after their start.
        let since = Instant::now();
        let name = role.rsplit('/').next().unwrap_or(role);
        let found = match self.iam.get_role().role_name(name).send().await {
            Ok(found) => found,
            Err(error) if error.code() == Some("NoSuchEntity") => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let found = found.role().filter(|found| found.arn() == role);
        let Some(found) = found else { return Ok(None) };
        if found.permissions_boundary().is_some() {
            return Err(io::Error::other(format!("`{name}` has a permissions boundary, which is not evaluated here")));
        }
        let mut policies = self.inline(name).await?;
        policies.extend(self.attached(name).await?);
        let found = Found { policies, trust: plain(found.assume_role_policy_document().unwrap_or_default()) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(role.to_owned(), (since, found.clone()));
        Ok(Some(found))
    }

    async fn inline(&self, role: &str) -> io::Result<Policies> {
        let mut pages = self.iam.list_role_policies().role_name(role).into_paginator().items().send();
        let mut policies = Policies::new();
        while let Some(name) = pages.next().await {
            let name = name.map_err(|error| failed(&error))?;
            let request = self.iam.get_role_policy().role_name(role).policy_name(&name);
            let policy = request.send().await.map_err(|error| failed(&error))?;
            policies.push((name, plain(policy.policy_document())));
        }
        Ok(policies)
    }

    async fn attached(&self, role: &str) -> io::Result<Policies> {
        let mut pages = self.iam.list_attached_role_policies().role_name(role).into_paginator().items().send();
        let mut policies = Policies::new();
        while let Some(attached) = pages.next().await {
            let attached = attached.map_err(|error| failed(&error))?;
            let arn = attached.policy_arn().unwrap_or_default();
            let policy = match self.iam.get_policy().policy_arn(arn).send().await {
                Ok(policy) => policy,
                // A local IAM may lack the policies that AWS manages; without one, less is allowed.
                Err(error) if error.code() == Some("NoSuchEntity") && arn.contains(":iam::aws:") => continue,
                Err(error) => return Err(failed(&error)),
            };
            let version = policy.policy().and_then(|policy| policy.default_version_id()).unwrap_or_default();
            let request = self.iam.get_policy_version().policy_arn(arn).version_id(version);
            let version = request.send().await.map_err(|error| failed(&error))?;
            let document = version.policy_version().and_then(|version| version.document()).unwrap_or_default();
            policies.push((attached.policy_name().unwrap_or(arn).to_owned(), plain(document)));
        }
        Ok(policies)
    }
}

/// IAM returns documents percent-encoded; not every stand-in does.
fn plain(document: &str) -> String {
    if document.trim_start().starts_with('{') {
        return document.to_owned();
    }
    percent_decoded(document).unwrap_or_else(|| document.to_owned())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = |rest: &mut std::str::Bytes<'_>| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()
        };
        bytes.push(if byte == b'%' { digits(&mut rest)? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: &E) -> io::Error {
    io::Error::other(DisplayErrorContext(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_two_arns_and_has_its_key() {
        let text = "arn:aws:lambda:us-east-1:123456789012:function:a=arn:aws:iam::123456789012:role/b";
        let caller: Caller = text.parse().expect("it is one");
        // printf '<function>:<role>' | sha256sum | cut -c1-16 | tr a-f A-F
        assert_eq!(caller.access_key(), "ASIABDB1CB8100FF7AF8");
        assert_eq!(caller.session(), "a");
        for wrong in ["", "a=b", "arn:aws:lambda:r:1:function:a", "arn:aws:iam::1:role/b=arn:aws:lambda:r:1:function:a"]
        {
            assert!(wrong.parse::<Caller>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_document_is_read_in_either_writing() {
        let document = r#"{"Resource":"a%20b"}"#;
        assert_eq!(plain(document), document);
        assert_eq!(plain("%7B%22Resource%22%3A%22a%2520b%22%7D"), document);
        assert_eq!(plain("%7"), "%7");
    }
}
