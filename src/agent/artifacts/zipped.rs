//! Writes a zip archive as a stream, with Unix rights, times and owners.
//!
//! The same files give the same bytes: GitLab takes a second upload of one archive only if it is the same.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cap_std::fs::{Metadata, MetadataExt};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use zip::result::{ZipError, ZipResult};
use zip::write::{FullFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// From here on an entry needs 64-bit sizes; well below 4 GiB, for compression can make a file larger.
const LARGE: u64 = 0xf000_0000;

/// Info-ZIP's field for times in UTC.
const EXTENDED_TIMESTAMP: u16 = 0x5455;

/// Info-ZIP's field for uid and gid.
const UNIX_OWNER: u16 = 0x7875;

/// An archive that grows.
pub(super) struct Zipper<W: Write> {
    archive: ZipWriter<StreamWriter<W>>,
    level: u32,
}

impl<W: Write> Zipper<W> {
    pub(super) fn new(out: W, level: u32) -> Self {
        Zipper { archive: ZipWriter::new_stream(out), level }
    }

    /// A file; its content is what is written next.
    pub(super) fn begin_file(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let level = Some(i64::from(self.level));
        self.begin(path.as_os_str().as_bytes(), metadata, |options| {
            options
                .compression_method(CompressionMethod::Deflated)
                .compression_level(level)
                .large_file(metadata.len() >= LARGE)
        })
    }

    /// A directory; false if the archive cannot name it, for which it has to be UTF-8.
    pub(super) fn directory(&mut self, path: &Path, metadata: &Metadata) -> io::Result<bool> {
        let Some(name) = path.to_str() else { return Ok(false) };
        let options = options(metadata).map_err(plain)?;
        self.archive.add_directory(name, options).map_err(plain)?;
        Ok(true)
    }

    /// A link is its target.
    pub(super) fn link(&mut self, path: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
        let stored = |options: FullFileOptions<'static, 'static>| options.compression_method(CompressionMethod::Stored);
        self.begin(path.as_os_str().as_bytes(), metadata, stored)?;
        self.archive.write_all(target.as_os_str().as_bytes())
    }

    /// Writes the archive's directory.
    pub(super) fn finish(self) -> io::Result<()> {
        self.archive.finish().map(drop).map_err(plain)
    }

    fn begin(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        more: impl FnOnce(FullFileOptions<'static, 'static>) -> FullFileOptions<'static, 'static>,
    ) -> io::Result<()> {
        let options = more(options(metadata).map_err(plain)?);
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

fn options(metadata: &Metadata) -> ZipResult<FullFileOptions<'static, 'static>> {
    let directory = if metadata.is_dir() { 0x10 } else { 0 };
    let mut options = FullFileOptions::default()
        .last_modified_time(dos_time(metadata.mtime()))
        .external_attributes((metadata.mode() << 16) | directory);
    if let Ok(seconds) = i32::try_from(metadata.mtime()) {
        let mut times = vec![1];
        times.extend(seconds.to_le_bytes());
        options.add_extra_field(EXTENDED_TIMESTAMP, times, false)?;
    }
    let mut owner = vec![1, 4];
    owner.extend(metadata.uid().to_le_bytes());
    owner.push(4);
    owner.extend(metadata.gid().to_le_bytes());
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
