//! Owns the table of keys: which blob each key means now, and the one step in which that changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use s3s::dto::ETag;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::blob::Blob;
use super::conditions::WriteConditions;

/// What a key means.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) blob: Arc<Blob>,
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

impl Object {
    pub(super) fn etag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }
}

/// Keys and what they mean, in order.
pub(super) type Keys = BTreeMap<String, Object>;

/// All buckets.
#[derive(Debug)]
pub(super) struct Objects {
    blobs: PathBuf,
    names: PathBuf,
    buckets: Mutex<HashMap<String, Keys>>,
}

/// One key on disk, so that the next start finds it.
#[derive(Serialize, Deserialize)]
struct Saved {
    key: String,
    blob: String,
    etag: String,
    size: u64,
    modified: Timestamp,
}

impl Objects {
    /// Opens the table beneath `root`, with what an earlier run left in it.
    pub(super) fn open(root: &Path, buckets: &[String]) -> io::Result<Objects> {
        let objects = Objects { blobs: root.join("blobs"), names: root.join("names"), buckets: Mutex::default() };
        for bucket in buckets {
            fs::create_dir_all(objects.blobs.join(bucket))?;
            fs::create_dir_all(objects.names.join(bucket))?;
            let keys = objects.load(bucket)?;
            objects.lock().insert(bucket.clone(), keys);
        }
        Ok(objects)
    }

    /// Where s3s-fs keeps the blobs.
    pub(super) fn blobs(&self) -> &Path {
        &self.blobs
    }

    pub(super) fn new_blob(&self, bucket: &str) -> Arc<Blob> {
        Blob::new(&self.blobs, bucket)
    }

    /// What `key` means now.
    pub(super) fn find(&self, bucket: &str, key: &str) -> S3Result<Option<Object>> {
        self.in_bucket(bucket, |keys| keys.get(key).cloned())
    }

    /// Reads all keys of a bucket at one moment.
    pub(super) fn in_bucket<R>(&self, bucket: &str, read: impl FnOnce(&Keys) -> R) -> S3Result<R> {
        match self.lock().get(bucket) {
            Some(keys) => Ok(read(keys)),
            None => Err(s3_error!(NoSuchBucket)),
        }
    }

    /// Lets `key` mean `object` if the conditions hold at this very moment.
    pub(super) fn put(&self, bucket: &str, key: &str, object: Object, conditions: &WriteConditions) -> S3Result<()> {
        let mut buckets = self.lock();
        let keys = buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        conditions.check(keys.get(key))?;
        self.save(bucket, key, &object).map_err(|error| s3_error!(error, InternalError))?;
        object.blob.keep();
        let old = keys.insert(key.to_owned(), object);
        old.inspect(|old| old.blob.discard());
        Ok(())
    }

    /// Takes `key` away; it is no error if it means nothing.
    pub(super) fn delete(&self, bucket: &str, key: &str, conditions: &WriteConditions) -> S3Result<()> {
        let mut buckets = self.lock();
        let keys = buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        conditions.check(keys.get(key))?;
        let Some(old) = keys.remove(key) else { return Ok(()) };
        old.blob.discard();
        fs::remove_file(self.name_file(bucket, key)).map_err(|error| s3_error!(error, InternalError))
    }

    fn save(&self, bucket: &str, key: &str, object: &Object) -> io::Result<()> {
        let Object { blob, etag, size, modified } = object;
        let (blob, etag) = (blob.name.clone(), etag.clone());
        let saved = Saved { key: key.to_owned(), blob, etag, size: *size, modified: *modified };
        let file = self.name_file(bucket, key);
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(&saved)?)?;
        fs::rename(new, file)
    }

    fn load(&self, bucket: &str) -> io::Result<Keys> {
        let mut keys = Keys::new();
        for entry in fs::read_dir(self.names.join(bucket))? {
            let path = entry?.path();
            if path.extension().is_some() {
                continue;
            }
            let Saved { key, blob, etag, size, modified } = serde_json::from_slice(&fs::read(path)?)?;
            let blob = Blob::known(&self.blobs, bucket, blob);
            keys.insert(key, Object { blob, etag, size, modified });
        }
        self.remove_unfinished(bucket, &keys)?;
        Ok(keys)
    }

    /// What an earlier run wrote and never published; uploads do not outlive it either.
    fn remove_unfinished(&self, bucket: &str, keys: &Keys) -> io::Result<()> {
        let known: HashSet<&str> = keys.values().map(|object| object.blob.name.as_str()).collect();
        for entry in fs::read_dir(self.blobs.join(bucket))? {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|name| !known.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".upload") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A key may be longer than a file name, and hold anything.
    fn name_file(&self, bucket: &str, key: &str) -> PathBuf {
        self.names.join(bucket).join(hex::encode(Sha256::digest(key)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Keys>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
