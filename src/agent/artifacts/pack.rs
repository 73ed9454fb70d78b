//! Packs found files in one of the three formats that GitLab takes (runner-behaviour.md §6.1, §6.2).

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, MetadataExt};
use flate2::{Compression, GzBuilder};
use thiserror::Error;

use super::found::{Found, look};
use super::zipped::Zipper;

/// How artifacts are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Files, directories and links in one archive.
    Zip,
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
    #[error("`{}` cannot be packed: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Two files, or none, in one raw artifact.
    #[error("{0} files match, and only one file can be sent as raw")]
    NotOne(usize),
}

impl PackError {
    /// Whoever took it has gone: it is the request that tells why.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, PackError::Write { source, .. } if source.kind() == ErrorKind::BrokenPipe)
    }
}

impl Format {
    /// GitLab's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Format::Zip => "zip",
            Format::Gzip => "gzip",
            Format::Raw => "raw",
        }
    }

    /// The name of a pack of `paths` that the job calls `name`.
    pub(super) fn file_name(self, name: &str, paths: &[PathBuf]) -> String {
        let base = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = base(Path::new(name)).unwrap_or_else(|| "default".to_owned());
        match self {
            Format::Zip => format!("{name}.zip"),
            Format::Gzip => format!("{name}.gz"),
            Format::Raw => paths.first().and_then(|path| base(path)).unwrap_or(name),
        }
    }

    /// Packs `paths` beneath `root` into `out` and returns what was left out, as sentences. Blocks.
    pub(super) fn pack(
        self,
        root: &Dir,
        paths: &[PathBuf],
        level: u32,
        out: &mut impl Write,
    ) -> Result<Vec<String>, PackError> {
        match self {
            Format::Zip => zip(root, paths, level, out),
            Format::Gzip => gzip(root, paths, level, out),
            Format::Raw => raw(root, paths, out),
        }
    }
}

/// How hard to compress, in the words of `ARTIFACT_COMPRESSION_LEVEL`.
pub(super) fn level(word: &str) -> u32 {
    match word.to_ascii_lowercase().as_str() {
        "fastest" => 1,
        "fast" => 3,
        "slow" => 8,
        "slowest" => 9,
        _ => 6,
    }
}

fn zip(root: &Dir, paths: &[PathBuf], level: u32, out: &mut impl Write) -> Result<Vec<String>, PackError> {
    let mut zipper = Zipper::new(out, level);
    let mut left_out = Vec::new();
    for path in paths {
        match look(root, path).map_err(reading(path))? {
            Found::File(file, metadata) => {
                zipper.begin_file(path, &metadata).map_err(writing(path))?;
                copy(&mut file.take(metadata.len()), &mut zipper, path)?;
            }
            Found::Directory(metadata) => {
                if !zipper.directory(path, &metadata).map_err(writing(path))? {
                    left_out.push(format!("`{}` has a name that is no UTF-8", path.display()));
                }
            }
            Found::Link(target, metadata) => zipper.link(path, &target, &metadata).map_err(writing(path))?,
            Found::Special => left_out.push(format!("`{}` is a socket, a pipe or a device", path.display())),
            Found::Nothing => left_out.push(format!("`{}` is gone", path.display())),
        }
    }
    zipper.finish().map_err(writing(Path::new(".")))?;
    Ok(left_out)
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
                encoder.finish().map_err(writing(path))?;
            }
            Found::Directory(_) => {}
            Found::Link(..) | Found::Special => left_out.push(format!("`{}` is no file", path.display())),
            Found::Nothing => left_out.push(format!("`{}` is gone", path.display())),
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
            Ok(read) => to.write_all(&buffer[..read]).map_err(writing(path))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(path)(error)),
        }
    }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> PackError {
    let path = path.to_owned();
    move |source| PackError::Read { path: path.clone(), source }
}

fn writing(path: &Path) -> impl Fn(io::Error) -> PackError {
    let path = path.to_owned();
    move |source| PackError::Write { path: path.clone(), source }
}
