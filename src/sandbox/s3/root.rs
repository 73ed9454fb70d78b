//! Owns where buckets lie on disk: blobs, the names that point at them, and what is still being written.
//!
//! Several sandboxes may use one root at a time. Each writes in a folder of its own and moves what is whole to the
//! blobs; a name is one file that is renamed into place. Locks are on open folders, so they end with whoever holds them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use s3s_fs::FileSystem;
use uuid::Uuid;

/// What the folders that somebody writes in begin with.
const WRITING: &str = "writing-";

/// One root, as one sandbox uses it.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) blobs: PathBuf,
    pub(super) names: PathBuf,
    pub(super) writing: PathBuf,
    /// Others may use it now: what we remember of it may be old.
    pub(super) shared: bool,
    /// Reads blobs.
    pub(super) read: FileSystem,
    /// Writes what becomes a blob.
    pub(super) write: FileSystem,
    /// Tells others that our folder is in use.
    _in_use: File,
}

/// Nobody else changes the root meanwhile.
pub(super) struct Alone(#[expect(dead_code, reason = "closing it ends the lock")] File);

impl Root {
    /// Opens `root` for `buckets`, and removes what the dead were writing.
    pub(super) fn open(root: &Path, buckets: &[String], shared: bool) -> io::Result<Root> {
        let (blobs, names) = (root.join("blobs"), root.join("names"));
        let writing = root.join(format!("{WRITING}{}", Uuid::new_v4().simple()));
        fs::create_dir_all(&names)?;
        let _alone = alone(&names)?;
        for folder in [&blobs, &names, &writing] {
            fs::create_dir_all(folder)?;
            for bucket in buckets {
                fs::create_dir_all(folder.join(bucket))?;
            }
        }
        let in_use = File::open(&writing)?;
        flock(&in_use, FlockOperation::LockExclusive)?;
        remove_abandoned(root)?;
        let files = |root: &Path| FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")));
        let (read, write) = (files(&blobs)?, files(&writing)?);
        Ok(Root { blobs, names, writing, shared, read, write, _in_use: in_use })
    }

    /// Keeps other sandboxes from changing a shared root.
    pub(super) fn alone(&self) -> io::Result<Option<Alone>> {
        if self.shared { alone(&self.names).map(Some) } else { Ok(None) }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.writing) {
            tracing::debug!("`{}` stays until the next start: {error}", self.writing.display());
        }
    }
}

fn alone(names: &Path) -> io::Result<Alone> {
    let folder = File::open(names)?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(Alone(folder))
}

fn remove_abandoned(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let is_writing = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WRITING));
        if is_writing && flock(File::open(&path)?, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}
