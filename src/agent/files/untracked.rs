//! Asks git which files it does not know, for `untracked: true`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::agent::context::User;

/// A million names of 64 bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// As much of git's complaints as is looked at.
const LONGEST_WORDS: u64 = 64 << 10;

/// What git does not know in `project_dir`, ignored files included; the error is a sentence.
pub(super) async fn untracked(project_dir: &Path, user: Option<User>) -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new("git");
    // The job may have written the repository's configuration: nothing in it may name a program to run here.
    command
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*"])
        .args(["ls-files", "-o", "-z"])
        .current_dir(project_dir)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
            ("GIT_TERMINAL_PROMPT", "0"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let mut child = command.spawn().map_err(|error| format!("cannot start git: {error}"))?;
    let (listed, said) = (child.stdout.take(), child.stderr.take());
    let (listed, said) = tokio::join!(read(listed, LONGEST_LIST), read(said, LONGEST_WORDS));
    let listed = listed.map_err(|error| format!("git ls-files: {error}"))?;
    if listed.len() as u64 >= LONGEST_LIST {
        // Nobody reads the rest: the value takes git with it.
        return Err(format!("git ls-files: more than {} MiB of names", LONGEST_LIST >> 20));
    }
    let status = child.wait().await.map_err(|error| format!("git ls-files: {error}"))?;
    if !status.success() {
        let why = said.unwrap_or_default();
        let why = String::from_utf8_lossy(&why);
        let why = why.lines().next().unwrap_or("no word from it").escape_debug().to_string();
        return Err(format!("git ls-files: {status} ({why})"));
    }
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    // A repository inside is named with a slash at its end.
    let path = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec())).components().collect();
    Ok(names.map(path).collect())
}

/// The first `longest` bytes.
async fn read(from: Option<impl AsyncRead + Unpin>, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(from) = from else { return Ok(bytes) };
    from.take(longest).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn repository() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let init = std::process::Command::new("git").args(["init", "-q"]).current_dir(directory.path()).status();
        assert!(init.unwrap().success());
        directory
    }

    #[tokio::test]
    async fn what_git_does_not_know_is_listed_ignored_files_included() {
        let directory = repository();
        for (path, text) in [(".gitignore", "out\n"), ("out", ""), ("a b", "")] {
            fs::write(directory.path().join(path), text).unwrap();
        }
        let mut found = untracked(directory.path(), None).await.unwrap();
        found.sort();
        assert_eq!(found, [".gitignore", "a b", "out"].map(PathBuf::from));
    }

    #[tokio::test]
    async fn what_is_no_repository_is_told_in_gits_words() {
        let directory = tempfile::tempdir().unwrap();
        let error = untracked(directory.path(), None).await.unwrap_err();
        assert!(error.starts_with("git ls-files: exit status: 128 (fatal: not a git repository"), "{error}");
    }

    #[tokio::test]
    async fn a_list_without_end_is_not_read_to_its_end() {
        let endless = tokio::io::repeat(b'x');
        assert_eq!(read(Some(endless), 1000).await.unwrap().len(), 1000);
    }
}
