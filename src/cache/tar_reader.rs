//! Reads a tar stream entry by entry in bounded memory, whatever the stream says of its sizes.
//!
//! Ours are POSIX with pax records; GitLab Runner's come from Go, which writes the same or GNU's long names.

use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, Header};

use super::plant::Moment;
use super::unpack::UnpackError;

const BLOCK: u64 = 512;
/// A path has 4,096 bytes at most; pax records may hold more than a path.
const LONGEST_EXTENSION: u64 = 64 << 10;

/// One entry needs two or three.
const MOST_EXTENSIONS: usize = 16;
/// Zeros fill the last record up, and tars are made with records of up to some MiB.
const LONGEST_END: u64 = 16 << 20;

/// What the arithmetic below can count.
const LARGEST_FILE: u64 = 1 << 62;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink(PathBuf),
    HardLink(PathBuf),
    /// A device, a pipe, or what we do not know.
    Special,
}

/// One entry; a file's content is read from the reader, before the next entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TarEntry {
    pub path: PathBuf,
    pub kind: Kind,
    pub mode: u32,
    pub modified: Moment,
}

/// A tar stream. Reading from it gives the current entry's content.
pub(super) struct TarReader<R> {
    inner: R,
    left: u64,
    padding: u64,
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<Moment>,
}

impl<R: Read> TarReader<R> {
    pub fn new(inner: R) -> Self {
        TarReader { inner, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end.
    pub fn next(&mut self) -> Result<Option<TarEntry>, UnpackError> {
        let mut extensions = Extensions::default();
        for _ in 0..=MOST_EXTENSIONS {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| UnpackError::Damaged("a size that is no number"))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(self.extension(size)?),
                EntryType::GNULongLink => extensions.link = Some(self.extension(size)?),
                EntryType::XHeader => extensions.read(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
        Err(UnpackError::Damaged("headers without an entry"))
    }

    /// Reads to the end: only then are checksums compared and a cut connection seen.
    pub fn finish(mut self) -> Result<(), UnpackError> {
        let end = io::copy(&mut (&mut self.inner).take(LONGEST_END + 1), &mut io::sink()).map_err(UnpackError::Read)?;
        if end > LONGEST_END { Err(UnpackError::Damaged("it does not end")) } else { Ok(()) }
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<TarEntry, UnpackError> {
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || extensions.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let link = || PathBuf::from(std::ffi::OsString::from_vec(link().unwrap_or_default()));
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link()),
            EntryType::Link => Kind::HardLink(link()),
            _ => Kind::Special,
        };
        if kind == Kind::File {
            self.left = extensions.size.unwrap_or(size);
            if self.left > LARGEST_FILE {
                return Err(UnpackError::Damaged("a file larger than any disk"));
            }
            self.padding = self.left.next_multiple_of(BLOCK) - self.left;
        }
        let header_time = Moment { seconds: header.mtime().unwrap_or(0).try_into().unwrap_or(0), nanos: 0 };
        Ok(TarEntry {
            path: PathBuf::from(std::ffi::OsString::from_vec(path)),
            kind,
            mode: header.mode().unwrap_or(0o644),
            modified: extensions.modified.unwrap_or(header_time),
        })
    }

    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(UnpackError::Damaged("it ends in the middle")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
            return Err(UnpackError::Damaged("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > LONGEST_EXTENSION {
            return Err(UnpackError::Damaged("a name or record of more than 64 KiB"));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(UnpackError::Read)?;
        // GNU ends names with a zero.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<(), UnpackError> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.inner).take(rest), &mut io::sink()).map_err(UnpackError::Read)?;
        if skipped < rest { Err(UnpackError::Damaged("it ends in the middle")) } else { Ok(()) }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// Reads pax records: `<length> <key>=<value>\n`.
    fn read(&mut self, mut records: &[u8]) -> Result<(), UnpackError> {
        let damaged = || UnpackError::Damaged("a pax record that is none");
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let length: usize = number(&records[..blank]).and_then(|n| n.try_into().ok()).ok_or_else(damaged)?;
            let record = records.get(blank + 1..length).ok_or_else(damaged)?;
            records = &records[length..];
            let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(damaged)?),
                b"mtime" => self.modified = Some(moment(value).ok_or_else(damaged)?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    // Rust would also take a plus.
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn moment(text: &[u8]) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, whole) = whole.strip_prefix('-').map_or((false, whole), |rest| (true, rest));
    let seconds = i64::try_from(number(whole.as_bytes())?).ok()?;
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => Moment { seconds, nanos },
        (true, 0) => Moment { seconds: -seconds, nanos },
        (true, nanos) => Moment { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond_and_before_1970() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.0000000019", Some((12, 1))),
            ("-1", Some((-1, 0))),
            ("-0.25", Some((-1, 750_000_000))),
            ("", None),
            ("x", None),
            ("1.x", None),
            ("+1", None),
            ("1.é", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(moment(text.as_bytes()).map(|m| (m.seconds, m.nanos)), expected, "{text}");
        }
    }

    #[test]
    fn damaged_records_are_no_panic() {
        for records in
            [&b"5"[..], b"x a=b\n", b"99 a=b\n", b"3 a=b\n", b"0 \n", b"6 a=bc", b"5 ab\n", b"2 ", b"1 a=b\n"]
        {
            assert!(Extensions::default().read(records).is_err(), "{records:?}");
        }
        let mut extensions = Extensions::default();
        extensions.read(b"14 path=a/b/c\n9 size=3\n").unwrap();
        assert_eq!((extensions.path.unwrap(), extensions.size), (b"a/b/c".to_vec(), Some(3)));
    }
}
