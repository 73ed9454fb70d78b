//! Packs found files in the formats that GitLab takes (runner-behaviour.md §6.1, §6.2).

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, MetadataExt};
use flate2::{Compression, GzBuilder};
use thiserror::Error;

use crate::cache::Extra;
use crate::cache::archive;
use crate::cache::format::{self, Effort};
use crate::cache::found::{Found, look};

/// What an archive is called whose job has no name for it.
const NO_NAME: &str = "artifacts";
/// What it is called when nothing is left of the name.
const EMPTY_NAME: &str = "default";

/// How artifacts are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Files, directories and links in one archive.
    Archive(format::Format),
    /// Files one after the other, each compressed.
    Gzip,
    /// One file as it is.
    Raw,
}

/// Why something could not be packed.
#[derive(Debug, Error)]
pub(super) enum PackError {
    /// A file cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Whoever takes it does not, or the format cannot hold it.
    #[error("they cannot be packed: {0}")]
    Write(#[source] io::Error),
    /// Two files, or none, in one raw artifact.
    #[error("{0} files match, and only one file can be sent as raw")]
    NotOne(usize),
}

impl PackError {
    /// Whoever took it has gone: it is the request that tells why.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, PackError::Write(source) if source.kind() == ErrorKind::BrokenPipe)
    }
}

impl From<archive::PackError> for PackError {
    fn from(error: archive::PackError) -> Self {
        match error {
            archive::PackError::Read { path, source } => PackError::Read { path, source },
            archive::PackError::Write(source) => PackError::Write(source),
        }
    }
}

impl Format {
    /// `zip` for archives and `gzip` for reports, unless GitLab says; `None` for a word that nobody knows.
    pub(super) fn read(word: &str, kind: &str) -> Option<Format> {
        match word {
            "" if kind == "archive" => Some(Format::Archive(format::Format::Zip)),
            "" | "gzip" => Some(Format::Gzip),
            "raw" => Some(Format::Raw),
            word => format::Format::read(word).map(Format::Archive),
        }
    }

    /// GitLab's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Format::Archive(format) => format.as_str(),
            Format::Gzip => "gzip",
            Format::Raw => "raw",
        }
    }

    /// The file name of a pack that is called `base`.
    pub(super) fn file_name(self, base: &str) -> String {
        match self {
            Format::Archive(format::Format::Zip | format::Format::ZipZstd) => format!("{base}.zip"),
            Format::Archive(format::Format::TarZstd) => format!("{base}.tar.zst"),
            Format::Gzip => format!("{base}.gz"),
            Format::Raw => base.to_owned(),
        }
    }

    /// Packs `paths` beneath `root` into `out` and returns what is not as it was found, as sentences. Blocks.
    pub(super) fn pack(
        self,
        root: &Dir,
        paths: &[PathBuf],
        effort: Effort,
        extra: Option<&Extra>,
        out: &mut impl Write,
    ) -> Result<Vec<String>, PackError> {
        match self {
            Format::Archive(format) => Ok(format.pack(root, paths, effort, extra, out)?.0.warnings),
            Format::Gzip => gzip(root, paths, effort.deflate(), out),
            Format::Raw => raw(root, paths, out),
        }
    }
}

/// What a pack is called that the job calls `name`; `expanded` is what is left of that.
pub(super) fn base_name(name: &str, expanded: &str) -> String {
    if name.is_empty() {
        return NO_NAME.to_owned();
    }
    let base = Path::new(expanded).file_name().map(|name| name.to_string_lossy().into_owned());
    base.unwrap_or_else(|| EMPTY_NAME.to_owned())
}

fn gzip(root: &Dir, paths: &[PathBuf], level: u32, out: &mut impl Write) -> Result<Vec<String>, PackError> {
    let mut left_out = Vec::new();
    for path in paths {
        match look(root, path).map_err(reading(path))? {
            Found::File(file, metadata) => {
                let name = path.file_name().unwrap_or_default().as_bytes();
                let modified = u32::try_from(metadata.mtime()).unwrap_or(0);
                let builder = GzBuilder::new().filename(name).comment(path.as_os_str().as_bytes()).mtime(modified);
                let mut encoder = builder.write(&mut *out, Compression::new(level));
                copy(&mut file.take(metadata.len()), &mut encoder, path)?;
                encoder.finish().map_err(PackError::Write)?;
            }
            Found::Directory(_) => {}
            Found::Link(..) | Found::Special => {
                left_out.push(format!("`{}` is no file: it is left out", path.display()))
            }
            Found::Nothing => left_out.push(format!("`{}` is gone: it is left out", path.display())),
        }
    }
    Ok(left_out)
}

fn raw(root: &Dir, paths: &[PathBuf], out: &mut impl Write) -> Result<Vec<String>, PackError> {
    let [path] = paths else { return Err(PackError::NotOne(paths.len())) };
    match look(root, path).map_err(reading(path))? {
        Found::File(file, metadata) => copy(&mut file.take(metadata.len()), out, path).map(|()| Vec::new()),
        _ => Err(PackError::NotOne(0)),
    }
}

/// As much as there was when it was opened: a file that somebody writes to would never end.
fn copy(from: &mut impl Read, to: &mut impl Write, path: &Path) -> Result<(), PackError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read]).map_err(PackError::Write)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(path)(error)),
        }
    }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> PackError {
    let path = path.to_owned();
    move |source| PackError::Read { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_names_are_those_of_gitlab_runner() {
        for (word, kind, name, expanded, format, file) in [
            ("", "archive", "", "", "zip", "artifacts.zip"),
            ("zip", "archive", "$NO", "", "zip", "default.zip"),
            ("zip", "archive", "n", "a/b/n", "zip", "n.zip"),
            ("zip", "archive", "n", "a/..", "zip", "default.zip"),
            ("zip", "archive", "n", "../../n/", "zip", "n.zip"),
            ("zipzstd", "archive", "n", "n", "zipzstd", "n.zip"),
            ("tarzstd", "archive", "n", "n", "tarzstd", "n.tar.zst"),
            ("", "junit", "junit.xml", "junit.xml", "gzip", "junit.xml.gz"),
            ("gzip", "dotenv", ".env", ".env", "gzip", ".env.gz"),
            ("raw", "metrics", "m.txt", "m.txt", "raw", "m.txt"),
            ("raw", "metrics", "", "", "raw", "artifacts"),
        ] {
            let read = Format::read(word, kind).unwrap();
            assert_eq!((read.as_str(), read.file_name(&base_name(name, expanded)).as_str()), (format, file), "{word}");
        }
        assert_eq!(Format::read("rar", "archive"), None);
    }
}
