//! Owns one blob: the bytes of one write, and the end of them once nobody can read them any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// The bytes of one write. Whoever holds it can read them.
#[derive(Debug)]
pub(super) struct Blob {
    root: PathBuf,
    bucket: String,
    /// The key that s3s-fs knows it by.
    pub(super) name: String,
    kept: AtomicBool,
}

impl Blob {
    /// A blob that goes away unless it is [kept](Self::keep).
    pub(super) fn new(root: &Path, bucket: &str) -> Arc<Blob> {
        Blob::named(root, bucket, Uuid::new_v4().simple().to_string(), false)
    }

    /// A blob of an earlier run.
    pub(super) fn known(root: &Path, bucket: &str, name: String) -> Arc<Blob> {
        Blob::named(root, bucket, name, true)
    }

    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::SeqCst);
    }

    pub(super) fn discard(&self) {
        self.kept.store(false, Ordering::SeqCst);
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.join(&self.bucket).join(&self.name)
    }

    fn named(root: &Path, bucket: &str, name: String, kept: bool) -> Arc<Blob> {
        Arc::new(Blob { root: root.to_owned(), bucket: bucket.to_owned(), name, kept: AtomicBool::new(kept) })
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if self.kept.load(Ordering::SeqCst) {
            return;
        }
        // s3s-fs keeps attributes and ETag beside the bucket and never takes them away.
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let beside = format!(".bucket-{}.object-{}", encode(&self.bucket), encode(&self.name));
        let others = ["metadata.json", "internal.json"].map(|end| self.root.join(format!("{beside}.{end}")));
        for file in others.into_iter().chain([self.path()]) {
            // A write that failed has not made all of them.
            let _ = fs::remove_file(file);
        }
    }
}
