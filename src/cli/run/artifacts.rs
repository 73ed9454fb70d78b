//! Puts a job's artifacts where the user finds them.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use flate2::read::MultiGzDecoder;

use crate::cache::room::Room;
use crate::cache::unpack::unpack;
use crate::sandbox::gitlab::{ArtifactView, JobHandle};

use super::place::safe;

/// A few kilobytes can unpack to anything.
const LARGEST_REPORT: u64 = 1 << 30;

/// Unpacks what `job` handed over into `directory`; the directory is made only if there is something.
pub(super) fn keep(job: &JobHandle, directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let artifacts = job.artifacts();
    if artifacts.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(directory).with_context(|| format!("making `{}`", directory.display()))?;
    // Reports first: what an archive plants beside them, a link say, must not lead a report astray.
    let (archives, reports): (Vec<_>, Vec<_>) = artifacts.iter().partition(|artifact| artifact.kind == "archive");
    for artifact in reports.into_iter().chain(archives) {
        put(artifact, directory).with_context(|| format!("unpacking `{}` of job `{}`", artifact.kind, job.name()))?;
    }
    Ok(Some(directory.to_owned()))
}

fn put(artifact: &ArtifactView, directory: &Path) -> anyhow::Result<()> {
    if artifact.kind == "archive" {
        let root = Dir::open_ambient_dir(directory, ambient_authority())?;
        unpack(&root, Room::of(&root)?, Cursor::new(&artifact.bytes))?;
        return Ok(());
    }
    // A report is one file, or several behind one another, under a name that a stranger chose.
    let reports = directory.join("reports");
    fs::create_dir_all(&reports)?;
    let name = safe(artifact.filename.trim_end_matches(".gz"));
    let name = format!("{}-{name}", safe(&artifact.kind));
    let mut file = File::create(reports.join(name))?;
    match artifact.format.as_str() {
        "gzip" => {
            let mut text = MultiGzDecoder::new(artifact.bytes.as_slice()).take(LARGEST_REPORT + 1);
            let bytes = io::copy(&mut text, &mut file)?;
            anyhow::ensure!(bytes <= LARGEST_REPORT, "the report unpacks to more than {LARGEST_REPORT} bytes");
        }
        _ => file.write_all(&artifact.bytes)?,
    }
    Ok(())
}
