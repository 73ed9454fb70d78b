//! Unpacks an archive beneath a directory: tar with zstd as we write it, and what GitLab Runner left at the same key.

use std::io::{self, BufReader, Read, Seek, Write};
use std::path::PathBuf;

use cap_std::fs::Dir;
use thiserror::Error;

use super::plant::{Planter, Unpacked, relative};
use super::room::Room;
use super::tar_reader::{Kind, TarReader};
use super::unzip::unzip;

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZIP: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// What `zstd --ultra` needs: 128 MiB. More is an attack on our memory.
const LARGEST_WINDOW_LOG: u32 = 27;

/// Why an archive was not unpacked, or not wholly.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive cannot be read on.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It breaks the rules of its format.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// It is none that we know.
    #[error("neither a tar with zstd nor a zip archive")]
    UnknownFormat,
    /// It would write elsewhere.
    #[error("`{}` lies outside the project directory", .0.display())]
    Outside(PathBuf),
    /// It holds what no job may make.
    #[error("`{}` is a device or a pipe: an archive may hold files, directories and links", .0.display())]
    Special(PathBuf),
    /// A hard link to something that the archive has not brought.
    #[error("`{}` is a hard link to `{}`, which is no file in the project directory", path.display(), target.display())]
    LinkToNothing {
        /// The link.
        path: PathBuf,
        /// What it should be.
        target: PathBuf,
    },
    /// A directory stands where a file should.
    #[error("`{}` is a directory already, and no directory in the archive", .0.display())]
    Occupied(PathBuf),
    /// The file system refuses.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Relative to the project directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// So many that their names do not fit our memory, or the disk.
    #[error("the archive holds too many files, directories and links")]
    TooManyEntries,
    /// It would fill the disk.
    #[error("the archive unpacks to more than the {0} bytes that are free on this disk")]
    NoRoom(u64),
    /// Nobody waits for it any more.
    #[error("unpacking was ended")]
    Stopped,
}

/// Unpacks `archive` beneath `root`, as long as there is `room`; its first bytes tell its format.
///
/// Blocks. A zip archive is put into a file without a name first, for its directory stands at its end.
///
/// # Errors
/// See [`UnpackError`]; what was unpacked before stays.
pub fn unpack(root: &Dir, room: Room, mut archive: impl Read) -> Result<Unpacked, UnpackError> {
    let mut magic = Vec::new();
    archive.by_ref().take(4).read_to_end(&mut magic).map_err(UnpackError::Read)?;
    let whole = magic.as_slice().chain(archive);
    if magic == ZSTD {
        untar(root, room, whole)
    } else if ZIP.contains(&magic.as_slice()) {
        let file = stored(whole)?;
        unzip(root, room, file)
    } else {
        Err(UnpackError::UnknownFormat)
    }
}

fn untar(root: &Dir, room: Room, archive: impl Read) -> Result<Unpacked, UnpackError> {
    let mut decoder = zstd::Decoder::new(archive).map_err(UnpackError::Read)?;
    decoder.window_log_max(LARGEST_WINDOW_LOG).map_err(UnpackError::Read)?;
    let mut tar = TarReader::new(BufReader::with_capacity(128 << 10, decoder));
    let mut planter = Planter::new(root, room);
    while let Some(entry) = tar.next()? {
        let path = relative(&entry.path)?;
        match entry.kind {
            Kind::File => planter.file(&path, entry.mode, Some(entry.modified), &mut tar)?,
            Kind::Directory => planter.directory(&path, entry.mode, Some(entry.modified))?,
            Kind::Symlink(target) => planter.symlink(&path, &target, Some(entry.modified))?,
            Kind::HardLink(target) => planter.hard_link(&path, &relative(&target)?)?,
            Kind::Special => return Err(UnpackError::Special(entry.path)),
        }
    }
    tar.finish()?;
    planter.finish()
}

/// The archive in a file that has no name and ends with us.
fn stored(mut archive: impl Read) -> Result<std::fs::File, UnpackError> {
    let failed = |source| UnpackError::Write { path: std::env::temp_dir(), source };
    let mut file = tempfile::tempfile().map_err(failed)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => file.write_all(&buffer[..read]).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(UnpackError::Read(error)),
        }
    }
    file.rewind().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::test_archive::tar_entry;
    use cap_std::ambient_authority;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;
    use tar::{EntryType, Header};
    use tempfile::TempDir;

    struct Place {
        _top: TempDir,
        project: PathBuf,
        outside: PathBuf,
    }

    fn place() -> Place {
        let top = tempfile::tempdir().unwrap();
        let (project, outside) = (top.path().join("project"), top.path().join("outside"));
        fs::create_dir(&project).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "untouched").unwrap();
        Place { _top: top, project, outside }
    }

    impl Place {
        fn unpack(&self, archive: &[u8]) -> Result<Unpacked, UnpackError> {
            let root = Dir::open_ambient_dir(&self.project, ambient_authority()).unwrap();
            let result = unpack(&root, Room::of(&root).unwrap(), archive);
            assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1, "something was made outside");
            assert_eq!(fs::read_to_string(self.outside.join("victim")).unwrap(), "untouched");
            assert_eq!(fs::metadata(self.outside.join("victim")).unwrap().nlink(), 1, "the victim got a name inside");
            result
        }
    }

    struct Entry<'a>(EntryType, &'a str, &'a str, u32, &'a [u8]);

    fn tar(entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        for Entry(kind, path, link, mode, content) in entries {
            tar_entry(&mut out, *kind, path, link, *mode, content);
        }
        out.extend_from_slice(&[0; 1024]);
        out
    }

    fn packed(entries: &[Entry]) -> Vec<u8> {
        zstd::encode_all(tar(entries).as_slice(), 1).unwrap()
    }

    use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};

    #[test]
    fn a_tar_cannot_name_a_place_outside() {
        for name in ["/etc/x", "../outside/x", "a/../../outside/x", "..", "a/..", "./../outside/victim"] {
            for kind in [Regular, Directory, Symlink] {
                let result = place().unpack(&packed(&[Entry(kind, name, "victim", 0o644, b"")]));
                assert!(matches!(result, Err(UnpackError::Outside(_))), "{name} {kind:?}: {result:?}");
            }
        }
    }

    #[test]
    fn nothing_is_written_through_a_symlink_that_the_archive_brought() {
        let absolute = place();
        let outside = absolute.outside.to_str().unwrap().to_owned();
        for target in ["../outside", &outside, "inside"] {
            let place = place();
            let archive = packed(&[
                Entry(Symlink, "link", target, 0o777, b""),
                Entry(Regular, "link/victim", "", 0o644, b"overwritten"),
            ]);
            // The directory is made for the file; the link then finds its place taken.
            assert!(matches!(place.unpack(&archive), Err(UnpackError::Occupied(_))));
            assert!(!place.project.join("inside").exists());
        }
        let place = place();
        let archive = packed(&[
            Entry(Symlink, "victim", "../outside/victim", 0o777, b""),
            Entry(Regular, "victim", "", 0o644, b"overwritten"),
        ]);
        place.unpack(&archive).unwrap();
    }

    #[test]
    fn nothing_is_written_through_a_symlink_that_was_there_and_leads_out() {
        let place = place();
        symlink("../outside", place.project.join("link")).unwrap();
        symlink("../outside/victim", place.project.join("file")).unwrap();

        let result = place.unpack(&packed(&[Entry(Regular, "link/victim", "", 0o644, b"x")]));
        assert!(matches!(result, Err(UnpackError::Write { .. })), "{result:?}");

        place.unpack(&packed(&[Entry(Regular, "file", "", 0o644, b"x")])).unwrap();
        assert!(fs::symlink_metadata(place.project.join("file")).unwrap().is_file());
    }

    #[test]
    fn a_file_that_was_there_is_replaced_and_not_written_into() {
        let place = place();
        fs::write(place.project.join("a"), "old").unwrap();
        fs::hard_link(place.project.join("a"), place.project.join("other")).unwrap();
        place.unpack(&packed(&[Entry(Regular, "a", "", 0o644, b"new")])).unwrap();
        assert_eq!(fs::read_to_string(place.project.join("a")).unwrap(), "new");
        assert_eq!(fs::read_to_string(place.project.join("other")).unwrap(), "old");
    }

    #[test]
    fn a_hard_link_leads_to_a_file_inside_or_nowhere() {
        for target in ["../outside/victim", "/etc/passwd"] {
            let result = place().unpack(&packed(&[Entry(Link, "a", target, 0o644, b"")]));
            assert!(matches!(result, Err(UnpackError::Outside(_))), "{target}: {result:?}");
        }
        let place = place();
        symlink("../outside", place.project.join("out")).unwrap();
        symlink("../outside/victim", place.project.join("file")).unwrap();
        for target in ["out/victim", "file", "nothing", "."] {
            let result = place.unpack(&packed(&[Entry(Link, "a", target, 0o644, b"")]));
            assert!(matches!(result, Err(UnpackError::LinkToNothing { .. })), "{target}: {result:?}");
        }
    }

    #[test]
    fn devices_and_pipes_are_refused() {
        for kind in [Block, Char, Fifo, EntryType::GNUSparse, EntryType::new(b'Z')] {
            let result = place().unpack(&packed(&[Entry(kind, "a", "", 0o644, b"")]));
            assert!(matches!(result, Err(UnpackError::Special(_))), "{kind:?}: {result:?}");
        }
    }

    #[test]
    fn set_user_id_bits_are_dropped() {
        let place = place();
        let entries = [Entry(Regular, "a", "", 0o6755, b"x"), Entry(Directory, "d/", "", 0o7777, b"")];
        place.unpack(&packed(&entries)).unwrap();
        let mode = |name: &str| fs::metadata(place.project.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a"), mode("d")), (0o755, 0o777));
    }

    #[test]
    fn long_names_in_gnus_and_in_pax_form_are_read_and_longer_ones_refused() {
        let name = "n".repeat(200);
        let place = place();
        let record = format!("210 path={name}\n");
        place
            .unpack(&packed(&[
                Entry(EntryType::GNULongName, "././@LongLink", "", 0o644, format!("{name}\0").as_bytes()),
                Entry(Regular, "short", "", 0o644, b"gnu"),
                Entry(EntryType::XGlobalHeader, "g", "", 0o644, b"11 path=x/y\n"),
                Entry(EntryType::XHeader, "x", "", 0o644, record.replace('n', "m").as_bytes()),
                Entry(Regular, "short", "", 0o644, b"pax"),
            ]))
            .unwrap();
        assert_eq!(fs::read_to_string(place.project.join(&name)).unwrap(), "gnu");
        assert_eq!(fs::read_to_string(place.project.join("m".repeat(200))).unwrap(), "pax");

        let huge = vec![b'n'; 70_000];
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
            let result = place.unpack(&packed(&[Entry(kind, "x", "", 0o644, &huge)]));
            assert!(matches!(result, Err(UnpackError::Damaged(_))), "{kind:?}: {result:?}");
        }
    }

    #[test]
    fn a_pax_record_cannot_name_a_place_outside_either() {
        let record = b"26 path=../outside/victim\n";
        let archive =
            packed(&[Entry(EntryType::XHeader, "x", "", 0o644, record), Entry(Regular, "a", "", 0o644, b"x")]);
        assert!(matches!(place().unpack(&archive), Err(UnpackError::Outside(_))));
    }

    #[test]
    fn a_cut_or_changed_archive_is_an_error_and_no_panic() {
        let content = vec![b'x'; 5000];
        let whole = packed(&[Entry(Regular, "a", "", 0o644, &content), Entry(Directory, "d/", "", 0o755, b"")]);
        for length in 0..whole.len() {
            assert!(place().unpack(&whole[..length]).is_err(), "{length}");
        }
        let plain = tar(&[Entry(Regular, "a", "", 0o644, &content)]);
        for length in [1, 511, 512, 513, 1024, 5000] {
            let cut = zstd::encode_all(&plain[..length], 1).unwrap();
            assert!(place().unpack(&cut).is_err(), "{length}");
        }
        let mut changed = plain.clone();
        changed[0] = b'b';
        assert!(place().unpack(&zstd::encode_all(changed.as_slice(), 1).unwrap()).is_err());
        assert!(matches!(place().unpack(b""), Err(UnpackError::UnknownFormat)));
        assert!(matches!(place().unpack(b"<?xml version"), Err(UnpackError::UnknownFormat)));
    }

    #[test]
    fn a_file_that_claims_more_than_it_has_is_an_error() {
        for size in [1, 1 << 40, 1 << 62, u64::MAX - 1, u64::MAX] {
            let mut plain = tar(&[Entry(Regular, "a", "", 0o644, b"")]);
            let mut header = Header::new_ustar();
            header.as_old_mut().name[0] = b'a';
            header.set_size(size);
            header.set_cksum();
            plain[..512].copy_from_slice(header.as_bytes());
            plain.truncate(512);
            let result = place().unpack(&zstd::encode_all(plain.as_slice(), 1).unwrap());
            assert!(matches!(result, Err(UnpackError::Read(_) | UnpackError::Damaged(_))), "{size}: {result:?}");
        }
    }

    #[test]
    fn our_archive_with_a_huge_zstd_window_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&tar(&[Entry(Regular, "a", "", 0o644, &vec![0; 1 << 20])])).unwrap();
        let archive = encoder.finish().unwrap();
        assert!(matches!(place().unpack(&archive), Err(UnpackError::Read(_))));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
        #[test]
        fn no_change_of_an_archive_panics_or_writes_outside(
            changes in proptest::collection::vec((0..6000usize, proptest::prelude::any::<u8>()), 1..12),
            keep_checksums in proptest::prelude::any::<bool>(),
        ) {
            let record = b"30 mtime=1350244992.023960108\n";
            let mut plain = tar(&[
                Entry(Directory, "d/", "", 0o755, b""),
                Entry(EntryType::XHeader, "x", "", 0o644, record),
                Entry(Regular, "d/a", "", 0o644, b"content"),
                Entry(Symlink, "d/l", "../../outside", 0o777, b""),
                Entry(Link, "h", "d/a", 0o644, b""),
            ]);
            for (at, byte) in changes {
                let at = at % plain.len();
                plain[at] = byte;
                if keep_checksums && at % 1024 < 512 {
                    let block = &mut plain[at / 512 * 512..][..512];
                    let mut header = Header::new_old();
                    header.as_mut_bytes().copy_from_slice(block);
                    header.set_cksum();
                    block.copy_from_slice(header.as_bytes());
                }
            }
            drop(place().unpack(&zstd::encode_all(plain.as_slice(), 1).unwrap()));
        }
    }

    #[test]
    fn a_directory_in_the_way_is_told() {
        let place = place();
        fs::create_dir(place.project.join("a")).unwrap();
        let result = place.unpack(&packed(&[Entry(Regular, "a", "", 0o644, b"x")]));
        assert!(matches!(result, Err(UnpackError::Occupied(path)) if path == Path::new("a")));
    }
}
