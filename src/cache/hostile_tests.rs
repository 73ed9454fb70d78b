//! What strangers put into archives, and into directories that are packed: one table, all formats.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::archive::PackError;
use super::format::{Effort, Format};
use super::room::Room;
use super::test_archive::tar_entry;
use super::transfer::chain;
use super::unpack::unpack;

const MIB: usize = 1 << 20;

#[derive(Clone, Debug)]
enum Entry {
    File(&'static str, Vec<u8>),
    Directory(&'static str),
    Symlink(&'static str, &'static str),
    /// No zip has these.
    HardLink(&'static str, &'static str),
    /// With the type's digit in Unix modes: 1 pipe, 2 character device, 6 block device, 12 socket.
    Special(&'static str, u32),
}

use Entry::{Directory, File, HardLink, Special, Symlink};

impl Entry {
    /// Name, mode and content, as a zip has them.
    fn in_zip(&self) -> Option<(&str, u32, &[u8])> {
        Some(match self {
            File(name, content) => (name, 0o100_644, content),
            Directory(name) => (name, 0o040_755, b""),
            Symlink(name, target) => (name, 0o120_777, target.as_bytes()),
            HardLink(..) => return None,
            Special(name, kind) => (name, kind << 12 | 0o644, b""),
        })
    }

    /// Kind, name, link and content, as a tar has them; it knows no sockets.
    fn in_tar(&self) -> Option<(EntryType, &str, &str, &[u8])> {
        Some(match self {
            File(name, content) => (EntryType::Regular, name, "", content),
            Directory(name) => (EntryType::Directory, name, "", b""),
            Symlink(name, target) => (EntryType::Symlink, name, target, b""),
            HardLink(name, target) => (EntryType::Link, name, target, b""),
            Special(name, 1) => (EntryType::Fifo, name, "", b""),
            Special(name, 2) => (EntryType::Char, name, "", b""),
            Special(name, 6) => (EntryType::Block, name, "", b""),
            Special(..) => return None,
        })
    }
}

/// By hand: careful writers refuse such names.
fn archive(format: Format, entries: &[Entry]) -> Option<Vec<u8>> {
    match format {
        Format::TarZstd => tar(entries),
        Format::Zip => zip(entries, 8, |content| {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(9));
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }),
        Format::ZipZstd => zip(entries, 93, |content| zstd::encode_all(content, 3).unwrap()),
    }
}

fn tar(entries: &[Entry]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        let (kind, name, link, content) = entry.in_tar()?;
        tar_entry(&mut out, kind, name, link, 0o644, content);
    }
    out.extend_from_slice(&[0; 1024]);
    Some(zstd::encode_all(out.as_slice(), 3).unwrap())
}

fn zip(entries: &[Entry], method: u16, compress: impl Fn(&[u8]) -> Vec<u8>) -> Option<Vec<u8>> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let (name, mode, content) = entry.in_zip()?;
        let compressed = compress(content);
        let mut common = Vec::new();
        common.extend_from_slice(&[0, 0]);
        common.extend_from_slice(&method.to_le_bytes());
        common.extend_from_slice(&[0, 0, 0x21, 0x28]);
        common.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
        common.extend_from_slice(&u32::try_from(compressed.len()).unwrap().to_le_bytes());
        common.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
        common.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        let offset = u32::try_from(out.len()).unwrap();
        out.extend_from_slice(b"PK\x03\x04\x3f\x00");
        out.extend_from_slice(&common);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&compressed);
        directory.extend_from_slice(b"PK\x01\x02\x3f\x03\x3f\x00");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(mode << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (at, count) = (u32::try_from(out.len()).unwrap(), u16::try_from(entries.len()).unwrap());
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    Some(out)
}

/// A project with a victim beside it, and links that a script has left.
struct Place {
    top: TempDir,
}

impl Place {
    fn new() -> Place {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("project/real")).unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        fs::write(top.path().join("outside/victim"), "untouched").unwrap();
        let project = top.path().join("project");
        symlink("../outside", project.join("left")).unwrap();
        symlink("/proc/self/root", project.join("proc")).unwrap();
        symlink(top.path().join("outside"), project.join("real/far")).unwrap();
        Place { top }
    }

    fn root(&self) -> Dir {
        Dir::open_ambient_dir(self.top.path().join("project"), ambient_authority()).unwrap()
    }

    fn assert_untouched(&self, what: &str) {
        let outside = self.top.path().join("outside");
        assert_eq!(fs::read_dir(self.top.path()).unwrap().count(), 2, "{what}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched", "{what}");
        assert_eq!(fs::metadata(outside.join("victim")).unwrap().nlink(), 1, "{what}");
    }
}

fn file(name: &'static str) -> Entry {
    File(name, b"overwritten".to_vec())
}

#[test]
fn no_archive_writes_outside_of_its_directory_and_each_says_why() {
    let table: Vec<(Vec<Entry>, &str)> = vec![
        // Names.
        (vec![file("/etc/mayfly")], "`/etc/mayfly` lies outside the project directory"),
        (vec![file("../outside/victim")], "`../outside/victim` lies outside"),
        (vec![file("a/../../outside/victim")], "`a/../../outside/victim` lies outside"),
        (vec![file("./../outside/victim")], "lies outside"),
        (vec![file("..")], "`..` lies outside"),
        (vec![Directory("../outside/new/")], "lies outside"),
        (vec![Directory("/new/")], "lies outside"),
        (vec![Symlink("../outside/link", "victim")], "lies outside"),
        // A link, and then through it.
        (vec![Symlink("link", "../outside"), file("link/victim")], "`link` is a directory already"),
        (vec![Symlink("link", "/proc/self/cwd/.."), file("link/new")], "`link` is a directory already"),
        (vec![Symlink("a", "b"), Symlink("b", "../outside"), file("a/victim")], "`a` is a directory already"),
        (vec![Symlink("link", "/etc"), Directory("link/new/")], "`link` is a directory already"),
        // Links that were there before.
        (vec![file("left/victim")], "cannot write `left/victim`"),
        (vec![file("left/new")], "cannot write `left/new`"),
        (vec![file("proc/tmp/mayfly")], "cannot write `proc/tmp/mayfly`"),
        (vec![file("real/far/victim")], "cannot write `real/far/victim`"),
        (vec![Directory("left/new/")], "cannot write `left/new`"),
        (vec![Symlink("left/link", "victim")], "cannot write `left/link`"),
        // Hard links.
        (vec![HardLink("a", "../outside/victim")], "`../outside/victim` lies outside"),
        (vec![HardLink("a", "/etc/passwd")], "`/etc/passwd` lies outside"),
        (vec![HardLink("a", "left/victim")], "`a` is a hard link to `left/victim`, which is no file"),
        (vec![HardLink("a", "proc/etc/passwd")], "which is no file in the project directory"),
        (vec![HardLink("a", "left")], "which is no file in the project directory"),
        (vec![file("a"), HardLink("left/b", "a")], "cannot write `left/b`"),
        // What is no file.
        (vec![Special("a", 1)], "`a` is a device or a pipe"),
        (vec![Special("a", 2)], "`a` is a device or a pipe"),
        (vec![Special("a", 6)], "`a` is a device or a pipe"),
        (vec![Special("a", 12)], "`a` is a device or a pipe"),
        // More than there is room for: 4 MiB in 100 entries.
        (vec![File("bomb", vec![0; 5 * MIB])], "unpacks to more than the 4194304 bytes that are free"),
        (vec![File("a", vec![0; 3 * MIB]), File("b", vec![0; 3 * MIB])], "unpacks to more than the 4194304 bytes"),
        ((0..101).map(|_| File("same", Vec::new())).collect(), "too many files, directories and links"),
        ((0..101).map(|_| Directory("same/")).collect(), "too many files, directories and links"),
        ((0..101).map(|_| Symlink("same", "a")).collect(), "too many files, directories and links"),
    ];
    for format in [Format::TarZstd, Format::Zip, Format::ZipZstd] {
        for (entries, expected) in &table {
            let what = format!("{format:?} {:.200}", format!("{entries:?}"));
            let Some(archive) = archive(format, entries) else { continue };
            let place = Place::new();

            let error = unpack(&place.root(), Room::new(4 << 20, 100), archive.as_slice()).expect_err(&what);

            let told = chain(&error);
            assert!(told.contains(expected), "{what}: {told}");
            place.assert_untouched(&what);
            let half = fs::metadata(place.top.path().join("project/bomb"));
            assert!(half.is_err(), "{what}: half of a bomb stays");
        }
    }
    assert!(!fs::exists("/tmp/mayfly").unwrap() && !fs::exists("/etc/mayfly").unwrap());
}

#[test]
fn links_that_lead_out_are_links_and_nothing_more() {
    for format in [Format::TarZstd, Format::Zip, Format::ZipZstd] {
        let place = Place::new();
        let entries = [file("a"), Symlink("up", "../outside/victim"), Symlink("a/../b", "/etc"), file("left")];
        let archive = archive(format, &entries[..2]).unwrap();
        unpack(&place.root(), Room::new(1 << 20, 10), archive.as_slice()).unwrap();
        // Once more: a file in a link's place takes it, and does not follow it.
        let again = self::archive(format, &[file("up"), file("left")]).unwrap();
        unpack(&place.root(), Room::new(1 << 20, 10), again.as_slice()).unwrap();
        place.assert_untouched(&format!("{format:?}"));
        let kind = |name: &str| fs::symlink_metadata(place.top.path().join("project").join(name)).unwrap().file_type();
        assert!(kind("up").is_file() && kind("left").is_file());
    }
}

#[test]
fn a_tar_without_an_end_ends() {
    let mut endless = Vec::new();
    for _ in 0..40 {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(0);
        header.set_cksum();
        endless.extend_from_slice(header.as_bytes());
    }
    let zeros = vec![0; 20 * MIB];
    for (plain, expected) in [(endless, "headers without an entry"), (zeros, "it does not end")] {
        let archive = zstd::encode_all(plain.as_slice(), 1).unwrap();
        let error = unpack(&Place::new().root(), Room::new(1, 1), archive.as_slice()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn nothing_outside_is_read_into_an_archive() {
    for format in [Format::TarZstd, Format::Zip, Format::ZipZstd] {
        let place = Place::new();
        let project = place.top.path().join("project");
        fs::write(place.top.path().join("outside/victim"), "secret-of-another").unwrap();
        symlink("/proc/self/environ", project.join("environ")).unwrap();
        symlink("../outside/victim", project.join("link")).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, project.join("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();

        let paths = ["environ", "left", "link", "pipe", "proc", "real", "real/far", "gone"].map(PathBuf::from);
        let (packed, archive) = format.pack(&place.root(), &paths, Effort::Fastest, None, Vec::new()).unwrap();

        // Links as links, with what they lead to and nothing of it.
        assert_eq!((packed.files, packed.bytes), (5, 0), "{format:?}");
        let left_out = "`pipe` is a socket, a pipe or a device: it is left out";
        assert_eq!(packed.warnings, [left_out, "`gone` is gone: it is left out"], "{format:?}");
        assert!(!archive.windows(10).any(|bytes| bytes == b"secret-of-"), "{format:?}");

        for through in ["left/victim", "real/far/victim", "proc/etc/passwd"] {
            let packed = format.pack(&place.root(), &[through.into()], Effort::Fastest, None, Vec::new());
            assert!(matches!(packed, Err(PackError::Read { .. })), "{format:?} {through}");
        }
    }
}
