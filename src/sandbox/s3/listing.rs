//! Owns `ListObjectsV2`: prefix, delimiter and pages over the keys of one bucket.

use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::{CommonPrefix, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object as Listed};
use s3s::{S3Result, s3_error};
use url::form_urlencoded::byte_serialize;

use super::conditions::time_of;
use super::objects::{Keys, Object};

/// More are never on one page.
const MOST_KEYS: i32 = 1000;

/// One page.
pub(super) fn list(input: ListObjectsV2Input, keys: &Keys) -> S3Result<ListObjectsV2Output> {
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
    let most = input.max_keys.unwrap_or(MOST_KEYS);
    if most < 0 {
        return Err(s3_error!(InvalidArgument, "max-keys must not be negative"));
    }
    let most = usize::try_from(most.min(MOST_KEYS)).unwrap_or_default();
    let after = match &input.continuation_token {
        Some(token) => Some(decode(token)?),
        None => input.start_after.clone(),
    };
    let start = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
    let is_url = input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
    let encode = |text: &str| if is_url { byte_serialize(text.as_bytes()).collect() } else { text.to_owned() };

    let (mut contents, mut groups, mut next) = (Vec::new(), Vec::<String>::new(), None);
    let mut last = String::new();
    for (key, object) in keys.range::<String, _>((start, Bound::Unbounded)).filter(|(key, _)| key.starts_with(&prefix))
    {
        let group = delimiter.as_ref().and_then(|delimiter| {
            let end = key[prefix.len()..].find(delimiter.as_str())? + prefix.len() + delimiter.len();
            Some(key[..end].to_owned())
        });
        // All keys of a group stand together, and it may have begun on the page before.
        let is_seen = |group: &String| {
            groups.last() == Some(group) || after.as_deref().is_some_and(|a| a.starts_with(group.as_str()))
        };
        if group.as_ref().is_some_and(is_seen) {
            last.clone_from(key);
            continue;
        }
        if contents.len() + groups.len() == most {
            next = (most > 0).then(|| URL_SAFE_NO_PAD.encode(&last));
            break;
        }
        last.clone_from(key);
        match group {
            Some(group) => groups.push(group),
            None => contents.push(listed(encode(key), object)),
        }
    }
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        key_count: i32::try_from(contents.len() + groups.len()).ok(),
        max_keys: i32::try_from(most).ok(),
        is_truncated: Some(next.is_some()),
        next_continuation_token: next,
        continuation_token: input.continuation_token,
        start_after: input.start_after.as_deref().map(encode),
        prefix: Some(encode(&prefix)),
        delimiter: delimiter.as_deref().map(encode),
        encoding_type: input.encoding_type,
        contents: Some(contents),
        common_prefixes: Some(groups.iter().map(|group| CommonPrefix { prefix: Some(encode(group)) }).collect()),
        ..ListObjectsV2Output::default()
    })
}

fn listed(key: String, object: &Object) -> Listed {
    Listed {
        key: Some(key),
        e_tag: Some(object.etag()),
        size: i64::try_from(object.size).ok(),
        last_modified: Some(time_of(object.modified.as_second())),
        ..Listed::default()
    }
}

fn decode(token: &str) -> S3Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}
