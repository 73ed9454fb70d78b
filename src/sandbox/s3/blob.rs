//! Owns one blob: the bytes of one write, and the end of them once nobody can read them any more.

use std::fs;
use std::io;
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

    /// A blob that an earlier run has not finished, and that goes away.
    pub(super) fn unfinished(root: &Path, bucket: &str, name: String) -> Arc<Blob> {
        Blob::named(root, bucket, name, false)
    }

    /// The same bytes beneath `root`, where all readers find them.
    pub(super) fn moved_to(&self, root: &Path) -> io::Result<Arc<Blob>> {
        let moved = Blob::named(root, &self.bucket, self.name.clone(), false);
        for (from, to) in self.files().into_iter().zip(moved.files()) {
            match fs::rename(from, to) {
                // Not every blob has attributes.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // They are the other's from now on, who may lie in the same place.
        self.keep();
        Ok(moved)
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

    /// s3s-fs keeps attributes and ETag beside the bucket.
    fn files(&self) -> [PathBuf; 3] {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let beside = format!(".bucket-{}.object-{}", encode(&self.bucket), encode(&self.name));
        let other = |end: &str| self.root.join(format!("{beside}.{end}"));
        [other("metadata.json"), other("internal.json"), self.path()]
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
        // s3s-fs never takes them away.
        for file in self.files() {
            // A write that failed has not made all of them.
            let _ = fs::remove_file(file);
        }
    }
}
