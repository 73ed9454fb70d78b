//! Packs files into an archive as a stream: POSIX tar, compressed with zstd.
//!
//! Times are kept to the nanosecond, for build tools compare them; links stay links, and two names of one file are
//! packed once.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use tar::{EntryType, Header};
use thiserror::Error;

const BLOCK: usize = 512;
const PADDING: [u8; BLOCK] = [0; BLOCK];
const MOST_WARNINGS: usize = 20;

/// Why no archive could be made.
#[derive(Debug, Error)]
pub enum PackError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Relative to the packed directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever takes the archive does not.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// What is in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files, links included, directories not.
    pub files: u64,
    /// The sum of their sizes, before compression.
    pub bytes: u64,
    /// What is not as it was found, as sentences; at most 20.
    pub warnings: Vec<String>,
}

impl Packed {
    pub(super) fn leave_out(&mut self, path: &Path, why: &str) {
        self.warn(format!("`{}` {why}: it is left out", path.display()));
    }

    fn warn(&mut self, sentence: String) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(sentence);
        }
    }
}

/// Packs `paths`, relative to `root`, and returns what was packed and the output.
///
/// Blocks. Nothing is followed: a symlink is packed as one, whatever it leads to. A directory stands for itself only.
/// A file that is gone by now, or is no file, directory or link, is left out with a warning.
///
/// # Errors
/// See [`PackError`].
pub fn pack<W: Write>(root: &Dir, paths: &[PathBuf], level: i32, out: W) -> Result<(Packed, W), PackError> {
    let mut encoder = zstd::Encoder::new(out, level).map_err(PackError::Write)?;
    encoder.include_checksum(true).map_err(PackError::Write)?;
    let mut packer =
        Packer { root, out: encoder, seen: HashMap::new(), packed: Packed::default(), buffer: vec![0; 128 << 10] };
    for path in paths {
        packer.add(path)?;
    }
    packer.write(&PADDING)?;
    packer.write(&PADDING)?;
    let out = packer.out.finish().map_err(PackError::Write)?;
    Ok((packer.packed, out))
}

struct Packer<'a, W: Write> {
    root: &'a Dir,
    out: zstd::Encoder<'static, W>,
    /// The first name of each file that has several.
    seen: HashMap<(u64, u64), PathBuf>,
    packed: Packed,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<'_, W> {
    fn add(&mut self, path: &Path) -> Result<(), PackError> {
        let read = |source| PackError::Read { path: path.to_owned(), source };
        let metadata = match self.root.symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.leave_out(path, "is gone"),
            Err(error) => return Err(read(error)),
        };
        if metadata.is_dir() {
            self.header(EntryType::Directory, path, None, &metadata, 0)
        } else if metadata.is_symlink() {
            let target = self.root.read_link_contents(path).map_err(read)?;
            self.packed.files += 1;
            self.header(EntryType::Symlink, path, Some(&target), &metadata, 0)
        } else if metadata.is_file() {
            // A pipe in its place by now would block us for ever.
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            match self.root.open_with(path, OpenOptions::new().read(true).custom_flags(flags)) {
                Ok(file) => self.file(path, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.leave_out(path, "is gone"),
                Err(error) => Err(read(error)),
            }
        } else {
            self.leave_out(path, "is a socket, a pipe or a device")
        }
    }

    fn file(&mut self, path: &Path, mut file: File) -> Result<(), PackError> {
        let read = |source| PackError::Read { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return self.leave_out(path, "is no file any more");
        }
        self.packed.files += 1;
        if metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.seen.get(&id).cloned() {
                return self.header(EntryType::Link, path, Some(&first), &metadata, 0);
            }
            self.seen.insert(id, path.to_owned());
        }
        let size = metadata.len();
        self.packed.bytes += size;
        self.header(EntryType::Regular, path, None, &metadata, size)?;

        // The header has said the size: a file that grows is cut, one that shrinks is filled up.
        let mut left = size;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match file.read(&mut self.buffer[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    self.out.write_all(&self.buffer[..count]).map_err(PackError::Write)?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read(error)),
            }
        }
        if left > 0 {
            self.packed.warn(format!("`{}` shrank while it was packed: its end is zeros", path.display()));
            io::copy(&mut io::repeat(0).take(left), &mut self.out).map_err(PackError::Write)?;
        }
        self.pad(size)
    }

    fn header(
        &mut self,
        kind: EntryType,
        path: &Path,
        link: Option<&Path>,
        metadata: &Metadata,
        size: u64,
    ) -> Result<(), PackError> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let link = link.map(|link| link.as_os_str().as_bytes()).unwrap_or_default();
        let mut records = Vec::new();
        let mut header = Header::new_ustar();
        if !fill(&mut header.as_old_mut().name, &name) {
            record(&mut records, "path", &name);
        }
        if !fill(&mut header.as_old_mut().linkname, link) {
            record(&mut records, "linkpath", link);
        }
        if metadata.mtime_nsec() != 0 || metadata.mtime() < 0 {
            record(&mut records, "mtime", decimal(metadata.mtime(), metadata.mtime_nsec()).as_bytes());
        }
        if !records.is_empty() {
            let mut extension = Header::new_ustar();
            fill(&mut extension.as_old_mut().name, b"././@PaxHeader");
            extension.set_entry_type(EntryType::XHeader);
            extension.set_mode(0o644);
            extension.set_size(records.len() as u64);
            extension.set_cksum();
            self.write(extension.as_bytes())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        header.set_entry_type(kind);
        header.set_mode(metadata.mode() & 0o777);
        header.set_mtime(metadata.mtime().try_into().unwrap_or(0));
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<(), PackError> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over == 0 { Ok(()) } else { self.write(&PADDING[over..]) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes).map_err(PackError::Write)
    }

    fn leave_out(&mut self, path: &Path, why: &str) -> Result<(), PackError> {
        self.packed.leave_out(path, why);
        Ok(())
    }
}

/// Whether `bytes` fit the field; if not it gets their beginning, for readers that know no pax.
fn fill(field: &mut [u8], bytes: &[u8]) -> bool {
    let most = bytes.len().min(field.len());
    field[..most].copy_from_slice(&bytes[..most]);
    most == bytes.len()
}

/// One pax record: `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn decimal(seconds: i64, nanos: i64) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000)
}
