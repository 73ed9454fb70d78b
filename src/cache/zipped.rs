//! Writes a zip archive as a stream, with Unix rights, times and owners.
//!
//! The same files give the same bytes: GitLab takes a second upload of one archive only if it is the same.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata, MetadataExt};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use zip::result::{ZipError, ZipResult};
use zip::write::{FullFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::archive::{PackError, Packed};
use super::found::{Found, look};

/// From here on an entry needs 64-bit sizes; well below 4 GiB, for compression can make a file larger.
const LARGE: u64 = 0xf000_0000;

/// Info-ZIP's field for times in UTC.
const EXTENDED_TIMESTAMP: u16 = 0x5455;

/// Info-ZIP's field for uid and gid.
const UNIX_OWNER: u16 = 0x7875;

/// How the files in a zip are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Deflate(i64),
    Zstd(i64),
}

/// A file that lies nowhere on the disk, for the end of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Its path in the archive.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub modified: i64,
}

/// Packs `paths` beneath `root`, then `extra`. Blocks; see [`pack`](super::archive::pack).
pub(super) fn zip<W: Write>(
    root: &Dir,
    paths: &[PathBuf],
    method: Method,
    extra: Option<&Extra>,
    out: W,
) -> Result<(Packed, W), PackError> {
    let mut packed = Packed::default();
    let mut zipper = Zipper { archive: ZipWriter::new_stream(out), method };
    for path in paths {
        let found = look(root, path).map_err(|source| PackError::Read { path: path.clone(), source })?;
        packed.files += u64::from(matches!(found, Found::File(..) | Found::Link(..)));
        match found {
            Found::File(file, metadata) => {
                zipper.begin_file(path, &metadata).map_err(PackError::Write)?;
                // As much as there was when it was opened: a file that somebody writes to would never end.
                packed.bytes += copy(&mut file.take(metadata.len()), &mut zipper, path)?;
            }
            Found::Directory(metadata) => {
                if !zipper.directory(path, &metadata).map_err(PackError::Write)? {
                    packed.leave_out(path, "has a name that is no UTF-8");
                }
            }
            Found::Link(target, metadata) => zipper.link(path, &target, &metadata).map_err(PackError::Write)?,
            Found::Special => packed.leave_out(path, "is a socket, a pipe or a device"),
            Found::Nothing => packed.leave_out(path, "is gone"),
        }
    }
    if let Some(extra) = extra {
        zipper.extra(extra).map_err(PackError::Write)?;
        packed.files += 1;
        packed.bytes += extra.content.len() as u64;
    }
    let out = zipper.archive.finish().map_err(|error| PackError::Write(plain(error)))?;
    Ok((packed, out.into_inner()))
}

fn copy(from: &mut impl Read, to: &mut impl Write, path: &Path) -> Result<u64, PackError> {
    let (mut buffer, mut bytes) = (vec![0; 128 << 10], 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                to.write_all(&buffer[..read]).map_err(PackError::Write)?;
                bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(PackError::Read { path: path.to_owned(), source }),
        }
    }
}

/// An archive that grows.
struct Zipper<W: Write> {
    archive: ZipWriter<StreamWriter<W>>,
    method: Method,
}

impl<W: Write> Zipper<W> {
    /// A file; its content is what is written next.
    fn begin_file(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let options = compressed(options(metadata).map_err(plain)?, self.method);
        self.begin(path.as_os_str().as_bytes(), options.large_file(metadata.len() >= LARGE))
    }

    fn extra(&mut self, extra: &Extra) -> io::Result<()> {
        let attributes = (0o100_644 << 16, extra.modified, 0, 0);
        self.begin(extra.path.as_bytes(), compressed(options_of(attributes).map_err(plain)?, self.method))?;
        self.archive.write_all(&extra.content)
    }

    /// A directory; false if the archive cannot name it, for which it has to be UTF-8.
    fn directory(&mut self, path: &Path, metadata: &Metadata) -> io::Result<bool> {
        let Some(name) = path.to_str() else { return Ok(false) };
        let options = options(metadata).map_err(plain)?;
        self.archive.add_directory(name, options).map_err(plain)?;
        Ok(true)
    }

    /// A link is its target.
    fn link(&mut self, path: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
        let options = options(metadata).map_err(plain)?.compression_method(CompressionMethod::Stored);
        self.begin(path.as_os_str().as_bytes(), options)?;
        self.archive.write_all(target.as_os_str().as_bytes())
    }

    fn begin(&mut self, name: &[u8], options: FullFileOptions<'static, 'static>) -> io::Result<()> {
        self.archive.start_file_with_options(options.name(name)).map_err(plain)
    }
}

impl<W: Write> Write for Zipper<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.archive.flush()
    }
}

fn compressed(options: FullFileOptions<'static, 'static>, method: Method) -> FullFileOptions<'static, 'static> {
    match method {
        Method::Deflate(0) => options.compression_method(CompressionMethod::Stored),
        Method::Deflate(level) => {
            options.compression_method(CompressionMethod::Deflated).compression_level(Some(level))
        }
        Method::Zstd(level) => options.compression_method(CompressionMethod::Zstd).compression_level(Some(level)),
    }
}

fn options(metadata: &Metadata) -> ZipResult<FullFileOptions<'static, 'static>> {
    let directory = if metadata.is_dir() { 0x10 } else { 0 };
    options_of(((metadata.mode() << 16) | directory, metadata.mtime(), metadata.uid(), metadata.gid()))
}

fn options_of((attributes, modified, uid, gid): (u32, i64, u32, u32)) -> ZipResult<FullFileOptions<'static, 'static>> {
    let mut options = FullFileOptions::default().last_modified_time(dos_time(modified)).external_attributes(attributes);
    if let Ok(seconds) = i32::try_from(modified) {
        let mut times = vec![1];
        times.extend(seconds.to_le_bytes());
        options.add_extra_field(EXTENDED_TIMESTAMP, times, false)?;
    }
    let mut owner = vec![1, 4];
    owner.extend(uid.to_le_bytes());
    owner.push(4);
    owner.extend(gid.to_le_bytes());
    options.add_extra_field(UNIX_OWNER, owner, false)?;
    Ok(options)
}

/// In UTC; a zip knows no time before 1980 or after 2107.
fn dos_time(seconds: i64) -> DateTime {
    let first = DateTime::default();
    let Ok(time) = Timestamp::from_second(seconds) else { return first };
    let time = time.to_zoned(TimeZone::UTC).datetime();
    let part = |number: i8| u8::try_from(number).unwrap_or_default();
    match u16::try_from(time.year()).unwrap_or_default() {
        ..1980 => first,
        2108.. => DateTime::from_date_and_time(2107, 12, 31, 23, 59, 58).unwrap_or(first),
        year => DateTime::from_date_and_time(
            year,
            part(time.month()),
            part(time.day()),
            part(time.hour()),
            part(time.minute()),
            part(time.second()),
        )
        .unwrap_or(first),
    }
}

fn plain(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        error => io::Error::other(error),
    }
}
