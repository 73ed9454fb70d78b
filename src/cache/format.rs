//! Owns how an archive is packed: its format and how hard it is compressed, in the words that jobs have for both.

use std::io::Write;
use std::path::PathBuf;

use cap_std::fs::Dir;

use super::archive::{PackError, Packed, pack};
use super::zipped::{Extra, Method, zip};

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Zip with deflate.
    Zip,
    /// Zip with zstd.
    ZipZstd,
    /// Tar in one stream of zstd.
    TarZstd,
}

impl Format {
    /// Reads GitLab Runner's word; `None` for one that it does not know.
    pub fn read(word: &str) -> Option<Format> {
        match word.to_ascii_lowercase().as_str() {
            "zip" => Some(Format::Zip),
            "zipzstd" => Some(Format::ZipZstd),
            "tarzstd" => Some(Format::TarZstd),
            _ => None,
        }
    }

    /// GitLab Runner's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Zip => "zip",
            Format::ZipZstd => "zipzstd",
            Format::TarZstd => "tarzstd",
        }
    }

    /// Packs `paths` beneath `root`, and returns what was packed and the output. A tar has no place for `extra`. Blocks.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn pack<W: Write>(
        self,
        root: &Dir,
        paths: &[PathBuf],
        effort: Effort,
        extra: Option<&Extra>,
        out: W,
    ) -> Result<(Packed, W), PackError> {
        match self {
            Format::Zip => zip(root, paths, Method::Deflate(effort.deflate().into()), extra, out),
            Format::ZipZstd => zip(root, paths, Method::Zstd(effort.zstd().into()), extra, out),
            Format::TarZstd => pack(root, paths, effort.zstd(), out),
        }
    }
}

/// How hard to compress: `CACHE_COMPRESSION_LEVEL`, `ARTIFACT_COMPRESSION_LEVEL` (runner-behaviour.md §5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Hardly at all; a zip then only stores.
    Fastest,
    /// Less.
    Fast,
    /// As usual.
    #[default]
    Default,
    /// More.
    Slow,
    /// As much as there is.
    Slowest,
}

impl Effort {
    /// Reads GitLab Runner's word; what it does not know is its default.
    pub fn read(word: &str) -> Effort {
        match word.to_ascii_lowercase().as_str() {
            "fastest" => Effort::Fastest,
            "fast" => Effort::Fast,
            "slow" => Effort::Slow,
            "slowest" => Effort::Slowest,
            _ => Effort::Default,
        }
    }

    /// Deflate's level.
    pub fn deflate(self) -> u32 {
        match self {
            Effort::Fastest => 0,
            Effort::Fast => 1,
            Effort::Default => 5,
            Effort::Slow => 7,
            Effort::Slowest => 9,
        }
    }

    /// Zstandard's level.
    pub fn zstd(self) -> i32 {
        match self {
            Effort::Fastest => 1,
            Effort::Fast => 2,
            Effort::Default => 3,
            Effort::Slow => 7,
            Effort::Slowest => 12,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::room::Room;
    use crate::cache::unpack::unpack;
    use cap_std::ambient_authority;
    use std::fs;

    #[test]
    fn words_are_read_as_gitlab_runner_reads_them() {
        for (word, deflate, zstd) in [
            ("fastest", 0, 1),
            ("fast", 1, 2),
            ("default", 5, 3),
            ("slow", 7, 7),
            ("SLOWEST", 9, 12),
            ("", 5, 3),
            ("best", 5, 3),
        ] {
            let effort = Effort::read(word);
            assert_eq!((effort.deflate(), effort.zstd()), (deflate, zstd), "{word}");
        }
        for (word, format) in [
            ("zip", Some(Format::Zip)),
            ("ZipZstd", Some(Format::ZipZstd)),
            ("tarzstd", Some(Format::TarZstd)),
            ("", None),
            ("rar", None),
        ] {
            assert_eq!(Format::read(word), format, "{word}");
        }
    }

    #[test]
    fn each_format_and_effort_brings_back_what_went_in_and_harder_is_smaller() {
        let from = tempfile::tempdir().unwrap();
        let text: String = (0..40_000u64).map(|n| format!("{} ", n * n * 7919 % 99_991 % 613)).collect();
        fs::write(from.path().join("a"), &text).unwrap();
        fs::create_dir(from.path().join("d")).unwrap();
        std::os::unix::fs::symlink("a", from.path().join("l")).unwrap();
        let root = Dir::open_ambient_dir(from.path(), ambient_authority()).unwrap();
        let extra = Extra { path: "extra.json".into(), content: b"{}".to_vec(), modified: 1_000_000_000 };
        for format in [Format::Zip, Format::ZipZstd, Format::TarZstd] {
            let mut sizes = Vec::new();
            for effort in [Effort::Fastest, Effort::Default, Effort::Slowest] {
                let paths = ["a", "d", "l"].map(PathBuf::from);
                let (packed, bytes) = format.pack(&root, &paths, effort, Some(&extra), Vec::new()).unwrap();
                sizes.push(bytes.len());
                let to = tempfile::tempdir().unwrap();
                let root = Dir::open_ambient_dir(to.path(), ambient_authority()).unwrap();
                let unpacked = unpack(&root, Room::of(&root).unwrap(), bytes.as_slice()).unwrap();

                assert_eq!((packed.files, packed.bytes), (unpacked.files, unpacked.bytes));
                assert_eq!(fs::read_to_string(to.path().join("l")).unwrap(), text);
                assert!(to.path().join("d").is_dir());
                assert_eq!(to.path().join("extra.json").exists(), format != Format::TarZstd);
            }
            assert!(sizes[2] < sizes[0], "{format:?}: {sizes:?}");
        }
    }
}
