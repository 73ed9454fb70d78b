//! Owns the multipart uploads that are under way, and what completing one takes (aws.md §5).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use s3s::dto::{CompletedPart, ETag};
use s3s::{S3Result, s3_error};

use super::blob::Blob;

/// Every part but the last.
const LEAST_PART: u64 = 5 * 1024 * 1024;

/// All uploads by their id.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    all: Mutex<BTreeMap<String, Upload>>,
}

/// One upload.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) blob: Arc<Blob>,
    pub(super) since: Timestamp,
    pub(super) parts: BTreeMap<i32, Part>,
}

/// One part that is there.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) etag: ETag,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

impl Uploads {
    pub(super) fn add(&self, id: String, upload: Upload) {
        self.lock().insert(id, upload);
    }

    /// The upload `id`, if it is one to this key.
    pub(super) fn find(&self, id: &str, bucket: &str, key: &str) -> S3Result<Upload> {
        let found = self.lock().get(id).filter(|upload| upload.bucket == bucket && upload.key == key).cloned();
        found.ok_or_else(|| {
            s3_error!(NoSuchUpload, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
        })
    }

    pub(super) fn add_part(&self, id: &str, number: i32, part: Part) {
        if let Some(upload) = self.lock().get_mut(id) {
            upload.parts.insert(number, part);
        }
    }

    /// Takes the upload away; `None` if somebody else was quicker.
    pub(super) fn remove(&self, id: &str) -> Option<Upload> {
        self.lock().remove(id)
    }

    pub(super) fn of_bucket(&self, bucket: &str) -> HashMap<String, Upload> {
        let all = self.lock();
        all.iter().filter(|(_, upload)| upload.bucket == bucket).map(|(id, one)| (id.clone(), one.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Upload>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Whether these parts make the object.
    pub(super) fn check(&self, listed: &[CompletedPart], whole_size: Option<i64>) -> S3Result<()> {
        let numbers: Vec<i32> = listed.iter().filter_map(|part| part.part_number).collect();
        if listed.is_empty() || numbers.len() != listed.len() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        let (mut sizes, mut total) = (Vec::new(), 0);
        for part in listed {
            let known = part.part_number.and_then(|number| self.parts.get(&number));
            let known =
                known.filter(|known| part.e_tag.as_ref().is_some_and(|etag| etag.value() == known.etag.value()));
            let Some(known) = known else {
                return Err(s3_error!(
                    InvalidPart,
                    "One or more of the specified parts could not be found, or its ETag did not match."
                ));
            };
            sizes.push(known.size);
            total += known.size;
        }
        if sizes.iter().rev().skip(1).any(|size| *size < LEAST_PART) {
            return Err(s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size"));
        }
        if whole_size.is_some_and(|whole| u64::try_from(whole) != Ok(total)) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed."
            ));
        }
        if !numbers.iter().copied().eq(1..=numbers.len() as i32) {
            return Err(s3_error!(NotImplemented, "the sandbox needs parts numbered 1, 2, 3 and so on"));
        }
        Ok(())
    }
}
