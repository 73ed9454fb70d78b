//! Owns the table of keys: which blob each key means now, and the one step in which that changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use s3s::dto::ETag;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::blob::Blob;
use super::conditions::WriteConditions;
use super::root::Root;

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
#[derive(Debug, Default)]
pub(super) struct Objects {
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    name: String,
    root: Arc<Root>,
    keys: Keys,
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
    /// Adds a bucket beneath `root`, with what an earlier run left in it.
    pub(super) fn open(&self, name: &str, root: &Arc<Root>) -> io::Result<()> {
        let mut bucket = Bucket { name: name.to_owned(), root: Arc::clone(root), keys: Keys::new() };
        let _alone = root.alone()?;
        bucket.load()?;
        bucket.remove_unfinished()?;
        self.lock().insert(name.to_owned(), bucket);
        Ok(())
    }

    /// Where a bucket lies.
    pub(super) fn root(&self, bucket: &str) -> S3Result<Arc<Root>> {
        self.with(bucket, |bucket| Ok(Arc::clone(&bucket.root)))
    }

    pub(super) fn new_blob(&self, bucket: &str) -> S3Result<Arc<Blob>> {
        Ok(Blob::new(&self.root(bucket)?.writing, bucket))
    }

    /// What `key` means now.
    pub(super) fn find(&self, bucket: &str, key: &str) -> S3Result<Option<Object>> {
        self.with(bucket, |bucket| {
            bucket.refresh(key)?;
            Ok(bucket.keys.get(key).cloned())
        })
    }

    /// Reads all keys of a bucket at one moment.
    pub(super) fn in_bucket<R>(&self, bucket: &str, read: impl FnOnce(&Keys) -> R) -> S3Result<R> {
        self.with(bucket, |bucket| {
            if bucket.root.shared {
                let _alone = bucket.root.alone()?;
                bucket.load()?;
            }
            Ok(read(&bucket.keys))
        })
    }

    /// Lets `key` mean `object` if the conditions hold at this very moment.
    pub(super) fn put(&self, bucket: &str, key: &str, object: Object, conditions: &WriteConditions) -> S3Result<()> {
        self.with(bucket, |bucket| {
            let _alone = bucket.root.alone()?;
            bucket.refresh(key)?;
            if let Err(error) = conditions.check(bucket.keys.get(key)) {
                return Ok(Err(error));
            }
            let object = Object { blob: object.blob.moved_to(&bucket.root.blobs)?, ..object };
            bucket.save(key, &object)?;
            object.blob.keep();
            let old = bucket.keys.insert(key.to_owned(), object);
            old.inspect(|old| old.blob.discard());
            Ok(Ok(()))
        })?
    }

    /// Takes `key` away; it is no error if it means nothing.
    pub(super) fn delete(&self, bucket: &str, key: &str, conditions: &WriteConditions) -> S3Result<()> {
        self.with(bucket, |bucket| {
            let _alone = bucket.root.alone()?;
            bucket.refresh(key)?;
            if let Err(error) = conditions.check(bucket.keys.get(key)) {
                return Ok(Err(error));
            }
            if let Some(old) = bucket.keys.remove(key) {
                old.blob.discard();
                fs::remove_file(bucket.name_file(key))?;
            }
            Ok(Ok(()))
        })?
    }

    fn with<R>(&self, bucket: &str, act: impl FnOnce(&mut Bucket) -> io::Result<R>) -> S3Result<R> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        act(bucket).map_err(|error| s3_error!(error, InternalError))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn save(&self, key: &str, object: &Object) -> io::Result<()> {
        let Object { blob, etag, size, modified } = object;
        let (blob, etag) = (blob.name.clone(), etag.clone());
        let saved = Saved { key: key.to_owned(), blob, etag, size: *size, modified: *modified };
        let file = self.name_file(key);
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(&saved)?)?;
        fs::rename(new, file)
    }

    /// Reads what `key` means now, where others may have changed it.
    fn refresh(&mut self, key: &str) -> io::Result<()> {
        if !self.root.shared {
            return Ok(());
        }
        match fs::read(self.name_file(key)) {
            Ok(saved) => self.learn(&saved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.keys.remove(key);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn load(&mut self) -> io::Result<()> {
        self.keys.clear();
        for entry in fs::read_dir(self.root.names.join(&self.name))? {
            let path = entry?.path();
            if path.extension().is_none() {
                self.learn(&fs::read(path)?)?;
            }
        }
        Ok(())
    }

    fn learn(&mut self, saved: &[u8]) -> io::Result<()> {
        let Saved { key, blob, etag, size, modified } = serde_json::from_slice(saved)?;
        if self.keys.get(&key).is_none_or(|known| known.blob.name != blob) {
            let blob = Blob::known(&self.root.blobs, &self.name, blob);
            self.keys.insert(key, Object { blob, etag, size, modified });
        }
        Ok(())
    }

    /// What an earlier run moved to the blobs and never named.
    fn remove_unfinished(&self) -> io::Result<()> {
        let known: HashSet<&str> = self.keys.values().map(|object| object.blob.name.as_str()).collect();
        for entry in fs::read_dir(self.root.blobs.join(&self.name))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !known.contains(name.as_str()) {
                drop(Blob::unfinished(&self.root.blobs, &self.name, name));
            }
        }
        Ok(())
    }

    /// A key may be longer than a file name, and hold anything.
    fn name_file(&self, key: &str) -> PathBuf {
        self.root.names.join(&self.name).join(hex::encode(Sha256::digest(key)))
    }
}
