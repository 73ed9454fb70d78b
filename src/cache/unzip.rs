//! Unpacks a zip archive beneath a directory: artifacts, and caches that GitLab Runner wrote.
//!
//! The archive's directory is walked entry by entry, so memory does not grow with it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use cap_std::fs::Dir;
use jiff::civil;
use jiff::tz::TimeZone;
use rustix::fs::FileType;
use zip::ZipReadOptions;
use zip::extra_fields::ExtraField;
use zip::read::{Config, ZipFile};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use super::plant::{Moment, Planter, Unpacked, relative};
use super::room::Room;
use super::unpack::UnpackError;

/// No path is longer.
const LONGEST_TARGET: u64 = 4096;

/// Unpacks the zip archive in `file` beneath `root`, as long as there is `room`. Blocks.
///
/// # Errors
/// See [`UnpackError`]; what was unpacked before stays.
pub fn unzip(root: &Dir, room: Room, file: File) -> Result<Unpacked, UnpackError> {
    let mut contents = file.try_clone().map_err(UnpackError::Read)?;
    // Both handles share one position; each seeks before it reads.
    let mut archive = ZipIterable::try_new(file, Config::default()).map_err(unreadable)?;
    let mut planter = Planter::new(root, room);
    for entry in archive.files().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let mut entry = entry.with_reader(&mut contents, ZipReadOptions::new()).map_err(unreadable)?;
        plant(&mut planter, &mut entry)?;
    }
    planter.finish()
}

fn plant(planter: &mut Planter, entry: &mut ZipFile<'_, File>) -> Result<(), UnpackError> {
    let name = PathBuf::from(OsString::from_vec(entry.name_raw().to_vec()));
    let path = relative(&name)?;
    let mode = entry.unix_mode();
    let modified = modified(entry);
    let file_type = mode.map_or(FileType::Unknown, FileType::from_raw_mode);
    if entry.is_dir() {
        return planter.directory(&path, mode.unwrap_or(0o777), modified);
    }
    match file_type {
        FileType::Symlink => {
            let mut target = Vec::new();
            entry.take(LONGEST_TARGET + 1).read_to_end(&mut target).map_err(UnpackError::Read)?;
            if target.len() as u64 > LONGEST_TARGET {
                return Err(UnpackError::Damaged("a link's target is longer than any path"));
            }
            planter.symlink(&path, &PathBuf::from(OsString::from_vec(target)), modified)
        }
        FileType::RegularFile | FileType::Unknown => {
            planter.file(&path, mode.filter(|mode| mode & 0o777 != 0).unwrap_or(0o644), modified, entry)
        }
        FileType::Directory => planter.directory(&path, mode.unwrap_or(0o777), modified),
        _ => Err(UnpackError::Special(name)),
    }
}

/// The time in the Unix field, else the DOS time, which has no time zone and is taken as UTC.
fn modified(entry: &ZipFile<'_, File>) -> Option<Moment> {
    let unix = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    if let Some(seconds) = unix {
        return Some(Moment { seconds: i64::from(seconds.cast_signed()), nanos: 0 });
    }
    let dos = entry.last_modified()?;
    let part = |number: u8| i8::try_from(number).ok();
    let time = civil::DateTime::new(
        i16::try_from(dos.year()).ok()?,
        part(dos.month())?,
        part(dos.day())?,
        part(dos.hour())?,
        part(dos.minute())?,
        part(dos.second())?,
        0,
    );
    let seconds = time.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    Some(Moment { seconds, nanos: 0 })
}

fn unreadable(error: ZipError) -> UnpackError {
    match error {
        ZipError::Io(error) => UnpackError::Read(error),
        error => UnpackError::Read(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::unpack::unpack;
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::io::{Cursor, Write};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    /// Zip's names are bytes in two places; the same length lets a test write what no writer would.
    fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let mut renamed = Vec::new();
        for (n, (name, mode, content)) in entries.iter().enumerate() {
            let stand_in = ["A", "B", "C", "D", "E"][n].repeat(name.len());
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .unix_permissions(mode & 0o7777)
                .last_modified_time(zip::DateTime::from_date_and_time(2001, 9, 9, 1, 46, 40).unwrap());
            writer.start_file(stand_in.as_str(), options).unwrap();
            writer.write_all(content).unwrap();
            renamed.push((stand_in, (*name).to_owned(), *mode));
        }
        let mut bytes = writer.finish().unwrap().into_inner();
        for (stand_in, name, mode) in renamed {
            let header = |bytes: &[u8], at: usize, size: usize, magic: &[u8]| {
                at >= size && bytes[at - size..].starts_with(magic) && bytes[at..].starts_with(stand_in.as_bytes())
            };
            for at in 0..bytes.len() - name.len() {
                let central = header(&bytes, at, 46, b"PK\x01\x02");
                if central || header(&bytes, at, 30, b"PK\x03\x04") {
                    bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
                }
                if central {
                    bytes[at - 6..at - 4].copy_from_slice(&u16::try_from(mode).unwrap().to_le_bytes());
                }
            }
        }
        bytes
    }

    fn unpacked(archive: &[u8]) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("project")).unwrap();
        fs::write(top.path().join("victim"), "untouched").unwrap();
        let root = Dir::open_ambient_dir(top.path().join("project"), ambient_authority()).unwrap();
        let result = unpack(&root, Room::of(&root).unwrap(), archive);
        assert_eq!(fs::read_to_string(top.path().join("victim")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2);
        (top, result)
    }

    #[test]
    fn files_directories_and_links_come_out_with_rights_and_times() {
        let archive = zip(&[
            ("dir/", 0o040_750, b""),
            ("dir/script", 0o100_755, b"#!/bin/sh\n"),
            ("dir/link", 0o120_777, b"script"),
            ("a/b/c", 0o100_600, &[7; 100_000]),
            ("suid", 0o104_755, b""),
        ]);
        let (top, result) = unpacked(&archive);
        assert_eq!(result.unwrap(), Unpacked { files: 4, bytes: 100_010 });
        let project = top.path().join("project");
        let look = |name: &str| fs::symlink_metadata(project.join(name)).unwrap();
        assert_eq!(look("dir").mode(), 0o040_750);
        assert_eq!((look("dir/script").mode(), look("dir/script").mtime()), (0o100_755, 1_000_000_000));
        assert_eq!(fs::read_link(project.join("dir/link")).unwrap(), Path::new("script"));
        assert_eq!((look("a/b/c").mode(), look("a/b/c").len()), (0o100_600, 100_000));
        assert_eq!(look("suid").mode(), 0o100_755);
    }

    #[test]
    fn a_zip_cannot_name_a_place_outside() {
        for name in ["/etc/x", "../victim", "a/../../victim", ".."] {
            let (_top, result) = unpacked(&zip(&[(name, 0o100_644, b"x")]));
            assert!(matches!(result, Err(UnpackError::Outside(_))), "{name}: {result:?}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link_that_the_archive_brought() {
        let (_top, result) = unpacked(&zip(&[("link", 0o120_777, b".."), ("link/victim", 0o100_644, b"x")]));
        assert!(matches!(result, Err(UnpackError::Occupied(_))), "{result:?}");
    }

    #[test]
    fn devices_and_endless_targets_are_refused() {
        for mode in [0o010_644, 0o020_644, 0o060_644, 0o140_644] {
            let (_top, result) = unpacked(&zip(&[("device", mode, b"")]));
            assert!(matches!(result, Err(UnpackError::Special(_))), "{mode:o}: {result:?}");
        }
        let (_top, result) = unpacked(&zip(&[("link", 0o120_777, &[b'a'; 5000])]));
        assert!(matches!(result, Err(UnpackError::Damaged(_))), "{result:?}");
    }

    #[test]
    fn a_cut_zip_is_an_error_and_no_panic() {
        let whole = zip(&[("a", 0o100_644, &[7; 3000]), ("dir/", 0o040_755, b"")]);
        for length in 0..whole.len() {
            assert!(unpacked(&whole[..length]).1.is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            drop(unpacked(&changed));
        }
    }
}
