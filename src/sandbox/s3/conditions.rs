//! Owns conditional requests (aws.md §5): 412, 404 and 304.

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};

use super::objects::Object;

/// `If-Match` and `If-None-Match` of a write.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl WriteConditions {
    /// Whether `object`, what the key means now, may be replaced.
    pub(super) fn check(&self, object: Option<&Object>) -> S3Result<()> {
        match &self.if_none_match {
            Some(ETagCondition::Any) if object.is_some() => {
                return Err(s3_error!(
                    PreconditionFailed,
                    "At least one of the pre-conditions you specified did not hold"
                ));
            }
            Some(ETagCondition::ETag(_)) => {
                return Err(s3_error!(NotImplemented, "If-None-Match of a write takes * only"));
            }
            _ => {}
        }
        let Some(condition) = &self.if_match else { return Ok(()) };
        let Some(object) = object else {
            return Err(s3_error!(NoSuchKey, "The specified key does not exist"));
        };
        match condition {
            ETagCondition::ETag(etag) if !object.etag().strong_cmp(etag) => {
                Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"))
            }
            _ => Ok(()),
        }
    }
}

/// The conditions of a GET or HEAD.
pub(super) struct ReadConditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

impl ReadConditions<'_> {
    /// Whether the caller wants `object`: else 412, or 304 for what it has already.
    pub(super) fn check(&self, object: &Object) -> S3Result<()> {
        // HTTP dates have no fractions.
        let modified = time_of(object.modified.as_second());
        let is_same = |condition: &ETagCondition, weak: bool| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) if weak => object.etag().weak_cmp(etag),
            ETagCondition::ETag(etag) => object.etag().strong_cmp(etag),
        };
        let holds = match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) => is_same(condition, false),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !holds {
            return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
        }
        let is_unchanged = match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => is_same(condition, true),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if !is_unchanged {
            return Ok(());
        }
        let mut unchanged = s3_error!(NotModified);
        let etag = object.etag().to_http_header().map_err(|error| s3_error!(error, InternalError))?;
        unchanged.set_headers([(http::header::ETAG, etag)].into_iter().collect());
        Err(unchanged)
    }
}

/// A point in time as s3s has it.
pub(super) fn time_of(second: i64) -> Timestamp {
    let seconds = std::time::Duration::from_secs(second.try_into().unwrap_or(0));
    Timestamp::from(std::time::SystemTime::UNIX_EPOCH + seconds)
}
