//! Asks git which files it does not know, for `untracked: true`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::agent::context::User;

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
        .kill_on_drop(true);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let output = command.output().await.map_err(|error| format!("cannot start git: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.lines().next().unwrap_or("no word from it").escape_debug().to_string();
        return Err(format!("git ls-files: {} ({why})", output.status));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    // A repository inside is named with a slash at its end.
    let path = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec())).components().collect();
    Ok(names.map(path).collect())
}
