//! Installs the judges that others wrote, each once for a target directory, from their registries.
//!
//! They need `node`, `npm` and `python3`, and a test fails without them: a judge that is not heard has not agreed.

#![allow(dead_code, reason = "each test hears one of the judges")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;
use tokio::sync::OnceCell;

const GITLAB_CI_LOCAL: &str = "gitlab-ci-local@4.64.0";
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";

/// The directory that gitlab-ci-local is installed in, with what it needs beside it in `node_modules`.
pub async fn gitlab_ci_local() -> &'static Path {
    static ROOM: OnceCell<PathBuf> = OnceCell::const_new();
    let install = installed(GITLAB_CI_LOCAL, async |room| {
        let quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"];
        run(Command::new("npm").arg("install").arg("--prefix").arg(room).args(quiet).arg(GITLAB_CI_LOCAL)).await;
    });
    ROOM.get_or_init(|| install).await
}

/// The directory that check-jsonschema is installed in.
pub async fn check_jsonschema() -> &'static Path {
    static ROOM: OnceCell<PathBuf> = OnceCell::const_new();
    let install = installed(CHECK_JSONSCHEMA, async |room| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(room)).await;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CHECK_JSONSCHEMA];
        run(Command::new(room.join("bin/python")).args(pip)).await;
    });
    ROOM.get_or_init(|| install).await
}

/// A script of ours that asks a judge.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges").join(name)
}

/// Runs `command` to its end, which must be a good one.
pub async fn run(command: &mut Command) -> Output {
    let output = ended(command).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    output
}

/// Runs `command` to its end, whatever that is.
pub async fn ended(command: &mut Command) -> Output {
    let output = command.kill_on_drop(true).output().await;
    output.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
}

async fn installed(name: &str, install: impl AsyncFnOnce(&Path)) -> PathBuf {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Another test may be a process of its own: the file system knows of it. In this process there is one of us.
    let lock = File::create(room.with_extension("lock")).expect("a lock");
    lock.lock().expect("the lock");
    if !room.join("complete").exists() {
        fs::create_dir_all(&room).expect("a room");
        install(&room).await;
        fs::write(room.join("complete"), "").expect("a mark");
    }
    room
}
