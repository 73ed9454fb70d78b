//! An independent judge: boto3 runs one task in the sandbox's ECS, and its model says which members requests have.
//!
//! It needs `python3` and PyPI, and fails without them: a judge that is not heard has not agreed.

use std::path::{Path, PathBuf};
use std::process::Output;

use mayfly::sandbox::ecs::{Ecs, Options};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::sync::mpsc::unbounded_channel;

/// The version whose model `shapes.txt` was taken from.
const BOTO3: &str = "boto3==1.44.5";

#[tokio::test]
async fn boto3_runs_a_task_in_the_sandbox() {
    let python = venv().await;
    let root = tempfile::tempdir().unwrap();
    let (sender, _events) = unbounded_channel();
    let ecs = Ecs::start(Options::new(root.path().join("t"), sender)).await.unwrap();

    let judged = run(Command::new(python).arg(script("boto3_ecs.py")).arg(ecs.url()).arg("mayfly")).await;

    assert_eq!(String::from_utf8_lossy(&judged.stdout), "judged\n");
    assert_eq!(ecs.violations(), [""; 0]);
    ecs.shutdown().await;
}

#[tokio::test]
async fn the_sandbox_knows_the_members_that_boto3_knows() {
    let python = venv().await;

    let shapes = run(Command::new(python).arg(script("ecs_shapes.py"))).await;

    assert_eq!(String::from_utf8_lossy(&shapes.stdout), include_str!("../src/sandbox/ecs/shapes.txt"));
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges").join(name)
}

/// A Python that has boto3, made once for a target directory.
async fn venv() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _alone = ONE_AT_A_TIME.lock().await;
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(BOTO3);
    let python = venv.join("bin/python");
    if !venv.join("complete").exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).await;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", BOTO3])).await;
        std::fs::write(venv.join("complete"), "").unwrap();
    }
    python
}

async fn run(command: &mut Command) -> Output {
    let output = command.kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    output
}
