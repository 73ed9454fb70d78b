//! What jobs in containers need: an engine, images, and an agent that runs in each of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::Runtime;

/// An agent that needs nothing of the image: one static binary, built once for all tests.
pub fn static_agent() -> PathBuf {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        const TARGET: &str = "x86_64-unknown-linux-gnu";
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let build = ["build", "--locked", "--quiet", "--no-default-features", "--bin", "agent", "--target", TARGET];
        // Next to what cargo built for these tests: `<target>/debug/agent`.
        let target = Path::new(env!("CARGO_BIN_EXE_agent")).ancestors().nth(2).expect("a target directory");
        let built = Command::new(cargo)
            .args(build)
            .arg("--target-dir")
            .arg(target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the static agent cannot be built");
        target.join(TARGET).join("debug/agent")
    };
    AGENT.get_or_init(build).clone()
}

/// Settings for jobs in containers, without a way out of this machine; `None` says why there are none here.
pub fn settings() -> Option<Settings> {
    if !is_ready() {
        return None;
    }
    Some(Settings {
        agent: Some(static_agent()),
        runtime: Runtime::Containers { internet: false },
        fleet: Box::new(|fleet| fleet.images.helper = "docker.io/mayfly/helper:1".to_owned()),
        ..Settings::default()
    })
}

/// Whether there is an engine with our images.
fn is_ready() -> bool {
    let has_engine = Path::new("/run/podman/podman.sock").exists();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let has_images = || {
        let exists = ["image", "exists", "docker.io/mayfly/nonroot:1"];
        Command::new("podman").args(exists).status().is_ok_and(|status| status.success())
    };
    let why = match (is_root, has_engine) {
        (false, _) => "they need root",
        (true, false) => "podman is not running (.ci/engine starts it)",
        (true, true) if !has_images() => "their images are not there (.ci/images makes them)",
        (true, true) => return true,
    };
    assert!(std::env::var_os("MAYFLY_NEED_CONTAINERS").is_none(), "tests in real containers cannot run: {why}");
    eprintln!("\nNOT TESTED: jobs in real containers: {why}\n");
    false
}
