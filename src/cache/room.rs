//! Owns how much an archive may unpack to: what the disk has free, with something left for the job.
//!
//! A few kilobytes can unpack to any number of terabytes. Whoever unpacks asks before each piece; whoever waits for it
//! can end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;
use rustix::fs::fstatvfs;

use super::unpack::UnpackError;

/// So much stays free, for the log and the script.
const RESERVE_BYTES: u64 = 128 << 20;
/// And so many inodes.
const RESERVE_ENTRIES: u64 = 4096;

/// What one archive may still fill.
#[derive(Clone, Debug)]
pub struct Room {
    most: u64,
    bytes: u64,
    entries: u64,
    stopped: Arc<AtomicBool>,
}

/// Ends the unpacking when it goes.
#[derive(Debug)]
pub struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Room {
    /// What is free where `root` lies, but for the reserve.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn of(root: &Dir) -> Result<Room, UnpackError> {
        let free = fstatvfs(root).map_err(|error| UnpackError::Write { path: ".".into(), source: error.into() })?;
        let bytes = free.f_bavail.saturating_mul(free.f_frsize).saturating_sub(RESERVE_BYTES);
        // Some file systems make inodes as they need them, and say that they have none.
        let entries = if free.f_files == 0 { u64::MAX } else { free.f_favail.saturating_sub(RESERVE_ENTRIES) };
        Ok(Room::new(bytes, entries))
    }

    /// For so many bytes in so many files, directories and links.
    pub fn new(bytes: u64, entries: u64) -> Room {
        Room { most: bytes, bytes, entries, stopped: Arc::default() }
    }

    /// What ends this unpacking when it is dropped.
    pub fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.stopped.clone())
    }

    pub(super) fn take_entry(&mut self) -> Result<(), UnpackError> {
        self.entries = self.entries.checked_sub(1).ok_or(UnpackError::TooManyEntries)?;
        self.take(0)
    }

    pub(super) fn take(&mut self, bytes: u64) -> Result<(), UnpackError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(UnpackError::Stopped);
        }
        self.bytes = self.bytes.checked_sub(bytes).ok_or(UnpackError::NoRoom(self.most))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_a_stopped_room_gives_nothing() {
        let mut room = Room::new(10, 2);
        assert!(room.take_entry().is_ok() && room.take(4).is_ok() && room.take(6).is_ok());
        assert!(matches!(room.take(1), Err(UnpackError::NoRoom(10))));
        assert!(room.take_entry().is_ok());
        assert!(matches!(room.take_entry(), Err(UnpackError::TooManyEntries)));
        drop(room.stop_on_drop());
        assert!(matches!(room.take(0), Err(UnpackError::Stopped)));
    }

    #[test]
    fn a_disk_has_room_and_not_all_of_it_is_given() {
        let root = Dir::open_ambient_dir(std::env::temp_dir(), cap_std::ambient_authority()).unwrap();
        let room = Room::of(&root).unwrap();
        assert!(room.bytes > 0 && room.bytes < u64::MAX && room.entries > 0);
    }
}
