//! Owns where a run's cache, artifacts and logs are kept: below the user's cache directory, by directory that was run.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

/// A job's name may be longer than a file's.
const LONGEST_NAME: usize = 100;

/// Where one directory's runs leave things. One run at a time holds it.
#[derive(Debug)]
pub(super) struct Place {
    /// The cache's bucket, kept from run to run.
    pub(super) cache: PathBuf,
    /// The last run's artifacts, a directory a job.
    pub(super) artifacts: PathBuf,
    /// The last run's logs.
    pub(super) logs: PathBuf,
    /// Where every job sees its builds; nothing if the directory is another user's.
    pub(super) builds: Option<PathBuf>,
    _lock: File,
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is empty: jobs saw theirs in its place. What cannot be removed is found by the next run.
        self.builds.iter().for_each(|builds| drop(fs::remove_dir(builds)));
    }
}

impl Place {
    /// The place for runs of `top`; what the last run left of artifacts and logs is gone.
    ///
    /// Artifacts can be put `elsewhere`, into a directory of the user's, where nothing is deleted; the cache of earlier
    /// runs stays if `keep_cache` says so.
    pub(super) fn take(top: &Path, elsewhere: Option<&Path>, keep_cache: bool) -> anyhow::Result<Place> {
        let base = cache_home()?.join("mayfly").join(directory_name(top));
        fs::create_dir_all(&base).with_context(|| format!("making `{}`", base.display()))?;
        let lock = File::create(base.join("lock")).context("making a lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another `mayfly run` of `{}` is still going on", top.display()),
            Err(TryLockError::Error(error)) => return Err(error).context("taking the lock"),
        }
        let (artifacts, logs, cache) = (base.join("artifacts"), base.join("logs"), base.join("cache"));
        let old_cache = (!keep_cache).then_some(&cache);
        for old in [&artifacts, &logs].into_iter().chain(old_cache) {
            remove(old).with_context(|| format!("removing `{}`", old.display()))?;
        }
        let artifacts = match elsewhere {
            Some(elsewhere) => std::path::absolute(elsewhere)?,
            None => artifacts,
        };
        for new in [&artifacts, &logs, &cache] {
            fs::create_dir_all(new).with_context(|| format!("making `{}`", new.display()))?;
        }
        Ok(Place { cache, artifacts, logs, builds: builds(top), _lock: lock })
    }
}

/// Removes a tree, also one with directories that nobody may write: artifacts keep their modes.
fn remove(tree: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let mut ahead = vec![tree.to_owned()];
            while let Some(directory) = ahead.pop() {
                fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
                for entry in fs::read_dir(&directory)? {
                    let entry = entry?;
                    // Not of what a link points to.
                    if entry.file_type()?.is_dir() {
                        ahead.push(entry.path());
                    }
                }
            }
            fs::remove_dir_all(tree)
        }
        result => result,
    }
}

/// An empty directory below the temporary one, which other users' git may reach; the same in every run of `top`, since
/// build directories that are kept in a cache hold absolute paths.
fn builds(top: &Path) -> Option<PathBuf> {
    let builds = std::env::temp_dir().join(format!("mayfly-{}", hash(top)));
    match fs::DirBuilder::new().mode(0o755).create(&builds) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => None,
        _ => {
            let found = fs::symlink_metadata(&builds).ok()?;
            (found.is_dir() && found.uid() == rustix::process::geteuid().as_raw()).then_some(builds)
        }
    }
}

fn hash(top: &Path) -> String {
    hex::encode(&Sha256::digest(top.as_os_str().as_bytes())[..4])
}

/// `$XDG_CACHE_HOME`, or `.cache` at home (XDG Base Directory Specification: a relative path is ignored).
fn cache_home() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("neither `XDG_CACHE_HOME` nor `HOME` says where the cache is to be kept")
}

/// The directory's name for people, and a hash of its path: two of one name are kept apart.
fn directory_name(top: &Path) -> String {
    let name = top.file_name().unwrap_or_default().to_string_lossy();
    format!("{}-{}", safe(&name), hash(top))
}

/// Names for files, one for every job, that no two jobs share.
#[derive(Debug, Default)]
pub(super) struct FileNames(HashSet<String>);

impl FileNames {
    /// A name for `job`'s files.
    pub(super) fn of(&mut self, job: &str) -> String {
        let name = safe(job);
        let others = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(others).find(|name| !self.0.contains(&name.to_lowercase()));
        let free = free.unwrap_or_default();
        self.0.insert(free.to_lowercase());
        free
    }
}

/// One component of a path, whatever was written: `test: [a, b/c]` is `test-a-b-c`.
pub(super) fn safe(name: &str) -> String {
    let legal = |c: char| if c.is_alphanumeric() || "._-+=@".contains(c) { c } else { '-' };
    let mut safe = String::new();
    for c in name.chars().map(legal) {
        if !(c == '-' && safe.ends_with('-')) && safe.len() + c.len_utf8() <= LONGEST_NAME {
            safe.push(c);
        }
    }
    let safe = safe.trim_matches(['.', '-']);
    if safe.is_empty() { "job".to_owned() } else { safe.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_becomes_one_safe_component() {
        for (name, expected) in [
            ("unit tests", "unit-tests"),
            ("test: [a, b/c]", "test-a-b-c"),
            ("unit 1/3", "unit-1-3"),
            ("../../etc", "etc"),
            ("..", "job"),
            ("grün", "grün"),
            ("a\u{1b}[31m", "a-31m"),
            ("", "job"),
        ] {
            assert_eq!(safe(name), expected, "{name:?}");
        }
        assert!(safe(&"ü".repeat(255)).len() <= LONGEST_NAME);
    }

    #[test]
    fn no_two_jobs_share_a_name() {
        let mut names = FileNames::default();
        assert_eq!(["a b", "a/b", "A b", "c"].map(|job| names.of(job)), ["a-b", "a-b-2", "A-b-3", "c"]);
    }

    #[test]
    fn directories_of_one_name_are_kept_apart() {
        let one = directory_name(Path::new("/home/me/app"));
        assert!(one.starts_with("app-") && one.len() == "app-".len() + 8, "{one}");
        assert_ne!(one, directory_name(Path::new("/srv/app")));
    }
}
