//! Gives what the helper brought to the user of the job's image, else root's git would refuse the tree.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chownat, openat};
use rustix::process::{Gid, Uid};

use super::context::User;

/// Gives `beneath` in the volume at `volume`, and all below it, to `user`.
///
/// No symlink is followed, on the way there neither, and none is left out: links change hands, too.
pub(super) fn give(volume: &Path, beneath: &Path, user: User) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    let root = open_beneath(&open(CWD, volume)?, beneath)?;
    rustix::fs::fchown(&root, uid, gid)?;
    // Paths, not open directories: a tree may be deeper than a process may have files open.
    let mut queue = VecDeque::from([PathBuf::new()]);
    while let Some(path) = queue.pop_front() {
        let Some(directory) = gone_is_none(open_beneath(&root, &path))? else { continue };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            gone_is_none(chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from))?;
            let is_directory = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
                known => known == FileType::Directory,
            };
            if is_directory {
                queue.push_back(
                    path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes())),
                );
            }
        }
    }
    Ok(())
}

fn open_beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut at = root.try_clone()?;
    for part in path {
        at = open(&at, Path::new(part))?;
    }
    Ok(at)
}

fn open(at: impl std::os::fd::AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// A file that went while we looked needs no owner.
fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn everything_below_changes_hands_and_nothing_beside_does() {
        let root = tempfile::tempdir().unwrap();
        let (tree, outside) = (root.path().join("tree"), root.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        fs::write(outside.join("file"), "").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        let own = fs::metadata(&outside).unwrap().uid();
        // Who is not root can only give to himself; the walk is the same.
        let user = if own == 0 {
            User { uid: 1234, gid: 1235 }
        } else {
            User { uid: own, gid: fs::metadata(&tree).unwrap().gid() }
        };

        give(root.path(), Path::new("tree"), user).unwrap();

        for path in ["", "a", "a/b", "a/b/file", "a/link"] {
            let found = fs::symlink_metadata(tree.join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (user.uid, user.gid), "{path}");
        }
        assert_eq!(fs::metadata(&outside).unwrap().uid(), own);
        assert_eq!(fs::metadata(outside.join("file")).unwrap().uid(), own);
    }

    #[test]
    fn a_link_in_the_directorys_place_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        symlink("/etc", root.path().join("tree")).unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        let user = User { uid: 1234, gid: 1234 };
        assert!(give(root.path(), Path::new("tree"), user).is_err());
        assert!(give(root.path(), Path::new("tree/ssl"), user).is_err());
        assert!(give(root.path(), Path::new("real/../tree"), user).is_err());
    }

    #[test]
    fn a_tree_may_be_deeper_than_files_may_be_open() {
        let root = tempfile::tempdir().unwrap();
        let user =
            User { uid: fs::metadata(root.path()).unwrap().uid(), gid: fs::metadata(root.path()).unwrap().gid() };
        let deep: PathBuf = std::iter::repeat_n("d", 1500).collect();
        fs::create_dir_all(root.path().join(&deep)).unwrap();
        give(root.path(), Path::new(""), user).unwrap();
    }
}
