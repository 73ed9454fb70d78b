//! Looks at what is to be packed, beneath the project directory and without following anything.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File, Metadata, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

/// What lies at a path.
pub enum Found {
    /// A file, open.
    File(File, Metadata),
    /// A directory.
    Directory(Metadata),
    /// With what it leads to, as it is written.
    Link(PathBuf, Metadata),
    /// A socket, a pipe or a device.
    Special,
    /// Gone since it was found.
    Nothing,
}

/// What lies at `path` beneath `root` now.
///
/// # Errors
/// When it cannot be looked at, or lies outside.
pub fn look(root: &Dir, path: &Path) -> io::Result<Found> {
    match at(root, path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        found => found,
    }
}

fn at(root: &Dir, path: &Path) -> io::Result<Found> {
    let metadata = root.symlink_metadata(path)?;
    if metadata.is_dir() {
        return Ok(Found::Directory(metadata));
    }
    if metadata.is_symlink() {
        return Ok(Found::Link(root.read_link_contents(path)?, metadata));
    }
    if !metadata.is_file() {
        return Ok(Found::Special);
    }
    // A link or a pipe may have taken its place: the one is an error, the other would block us for ever.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = root.open_with(path, OpenOptions::new().read(true).custom_flags(flags))?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(Found::File(file, metadata)) } else { Ok(Found::Special) }
}
