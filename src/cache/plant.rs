//! Puts what an archive holds beneath a directory, and never anywhere else.
//!
//! Archives are hostile: whoever may write a cache could leave one for a job with more rights. Paths are opened beneath
//! the directory by the kernel; a symlink is made after everything else, so that nothing is written through one that
//! the archive brought; rights of set-user-id files are dropped; what must be remembered until the end is bounded.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use cap_std::fs::{Dir, DirBuilder, File, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, fchmod, futimens, utimensat};

use super::room::Room;
use super::unpack::UnpackError;

/// Directories and symlinks wait in memory until the end, and the helper has no more than 256 MB; 300,000 of either fit.
const MOST_WAITING_BYTES: usize = 64 << 20;

/// What an archive has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, links included, directories not.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// A point in time as file systems know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub seconds: i64,
    pub nanos: u32,
}

impl Moment {
    fn as_times(self) -> Timestamps {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanos.min(999_999_999).into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// The relative path that an archive means: no `..`, not absolute; empty for the directory itself.
pub(super) fn relative(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return Err(UnpackError::Outside(path.to_owned())),
        }
    }
    Ok(clean)
}

/// Writes beneath one directory.
pub(super) struct Planter<'a> {
    root: &'a Dir,
    directories: Vec<(PathBuf, u32, Option<Moment>)>,
    symlinks: Vec<(PathBuf, PathBuf, Option<Moment>)>,
    waiting: usize,
    room: Room,
    unpacked: Unpacked,
    buffer: Vec<u8>,
}

impl<'a> Planter<'a> {
    pub fn new(root: &'a Dir, room: Room) -> Self {
        let (directories, symlinks, unpacked) = (Vec::new(), Vec::new(), Unpacked::default());
        Planter { root, directories, symlinks, waiting: 0, room, unpacked, buffer: vec![0; 128 << 10] }
    }

    pub fn file(
        &mut self,
        path: &Path,
        mode: u32,
        modified: Option<Moment>,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        self.room.take_entry()?;
        let mut file =
            self.make(path, |root| root.open_with(path, OpenOptions::new().write(true).create_new(true).mode(0o600)))?;
        let bytes = match self.fill(&mut file, path, content) {
            Ok(bytes) => bytes,
            Err(error) => {
                // Half a file is none; of one that fills the disk nothing may stay. The first error is the one to tell.
                drop(self.root.remove_file(path));
                return Err(error);
            }
        };
        let finished = fchmod(&file, permissions(mode)).map_err(io::Error::from).and_then(|()| match modified {
            Some(moment) => futimens(&file, &moment.as_times()).map_err(io::Error::from),
            None => Ok(()),
        });
        finished.map_err(writing(path))?;
        self.unpacked.files += 1;
        self.unpacked.bytes += bytes;
        Ok(())
    }

    pub fn directory(&mut self, path: &Path, mode: u32, modified: Option<Moment>) -> Result<(), UnpackError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.room.take_entry()?;
        let is_directory = || self.root.symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        if !is_directory() {
            self.make(path, |root| root.create_dir_with(path, &DirBuilder::new()))?;
        }
        self.wait(path.as_os_str().len())?;
        self.directories.push((path.to_owned(), mode, modified));
        Ok(())
    }

    pub fn symlink(&mut self, path: &Path, target: &Path, modified: Option<Moment>) -> Result<(), UnpackError> {
        if path.as_os_str().is_empty() || target.as_os_str().is_empty() {
            return Err(UnpackError::Damaged("a link without a name or a target"));
        }
        self.room.take_entry()?;
        self.wait(path.as_os_str().len() + target.as_os_str().len())?;
        self.symlinks.push((path.to_owned(), target.to_owned(), modified));
        Ok(())
    }

    /// One more name for a file that the archive has brought before.
    pub fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), UnpackError> {
        if path == target {
            return Ok(());
        }
        self.room.take_entry()?;
        let is_file = self.root.symlink_metadata(target).is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Err(UnpackError::LinkToNothing { path: path.to_owned(), target: target.to_owned() });
        }
        self.make(path, |root| root.hard_link(target, root, path))?;
        self.unpacked.files += 1;
        Ok(())
    }

    /// Makes the symlinks, then gives the directories their rights and times, the innermost first.
    pub fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (path, target, modified) in std::mem::take(&mut self.symlinks) {
            self.make(&path, |root| root.symlink_contents(&target, &path))?;
            self.unpacked.files += 1;
            if let Some(moment) = modified {
                touch_symlink(self.root, &path, moment).map_err(writing(&path))?;
            }
        }
        for (path, mode, modified) in self.directories.iter().rev() {
            let changed = self.root.open_with(path, OpenOptions::new().read(true).custom_flags(no_follow())).and_then(
                |directory| {
                    fchmod(&directory, permissions(*mode))?;
                    match modified {
                        Some(moment) => Ok(futimens(&directory, &moment.as_times())?),
                        None => Ok(()),
                    }
                },
            );
            changed.map_err(writing(path))?;
        }
        Ok(self.unpacked)
    }

    /// Makes something new at `path`: its directories too, and in the place of what is there unless that is a directory.
    fn make<T>(&self, path: &Path, make: impl Fn(&Dir) -> io::Result<T>) -> Result<T, UnpackError> {
        if path.as_os_str().is_empty() {
            return Err(UnpackError::Damaged("an entry without a name"));
        }
        let mut result = make(self.root);
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound)
            && let Some(parent) = path.parent()
        {
            self.root.create_dir_all(parent).map_err(writing(path))?;
            result = make(self.root);
        }
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
            let metadata = self.root.symlink_metadata(path).map_err(writing(path))?;
            if metadata.is_dir() {
                return Err(UnpackError::Occupied(path.to_owned()));
            }
            self.root.remove_file(path).map_err(writing(path))?;
            result = make(self.root);
        }
        result.map_err(writing(path))
    }

    fn fill(&mut self, file: &mut File, path: &Path, content: &mut impl Read) -> Result<u64, UnpackError> {
        let mut bytes = 0;
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(0) => return Ok(bytes),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(UnpackError::Read(error)),
            };
            self.room.take(read as u64)?;
            file.write_all(&self.buffer[..read]).map_err(writing(path))?;
            bytes += read as u64;
        }
    }

    fn wait(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.waiting += bytes + 96;
        if self.waiting > MOST_WAITING_BYTES { Err(UnpackError::TooManyEntries) } else { Ok(()) }
    }
}

/// The rights that an archive may give: no set-user-id, no set-group-id, no sticky bit.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o777)
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

fn touch_symlink(root: &Dir, path: &Path, moment: Moment) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => root.open_dir(parent)?,
        _ => root.try_clone()?,
    };
    Ok(utimensat(&parent, name, &moment.as_times(), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn writing(path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    |source| UnpackError::Write { path, source }
}
