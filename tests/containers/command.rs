//! `mayfly run --containers`, as a user starts it.

use std::process::{Command, Output, Stdio};

use crate::engine::{settings, static_agent};
use crate::support::repository;

const PIPELINE: &str = "
job:
  image: mayfly/busybox:1
  services: [{name: 'mayfly/busybox:1', alias: web, command: [httpd, -f, -p, '8080', -h, /etc]}]
  script:
    - until wget -qO passwd http://127.0.0.1:8080/passwd; do sleep 0.1; done
    - cat passwd
  artifacts: {paths: [passwd]}
";

#[test]
fn a_pipeline_runs_in_its_images_beside_its_services() {
    if settings().is_none() {
        return;
    }
    let (done, pid) =
        mayfly(&["--agent", static_agent().to_str().expect("a path"), "--helper-image", "mayfly/helper:1"]);

    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{out}{}", String::from_utf8_lossy(&done.stderr));
    assert!(out.contains("Jobs run in containers") && out.contains("root:x:0:0"), "{out}");
    let owned = format!("label=mayfly.owner={pid}");
    let left = Command::new("podman").args(["ps", "--all", "--quiet", "--filter", &owned]).output().expect("podman");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "containers are left");
}

#[test]
fn an_agent_that_needs_libraries_is_refused_with_the_way_out() {
    let (done, _) = mayfly(&["--agent", env!("CARGO_BIN_EXE_agent")]);

    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{error}");
    assert!(error.contains("make agent"), "{error}");
}

/// What the command said, and its process id.
fn mayfly(arguments: &[&str]) -> (Output, u32) {
    let (repository, home) = (repository(&[(".gitlab-ci.yml", PIPELINE)]), tempfile::tempdir().expect("a home"));
    let mut mayfly = Command::new(env!("CARGO_BIN_EXE_mayfly"));
    mayfly.args(["run", "--containers"]).args(arguments).current_dir(repository.path());
    mayfly.env("HOME", home.path()).env_remove("XDG_CACHE_HOME").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mayfly = mayfly.spawn().expect("mayfly runs");
    let pid = mayfly.id();
    (mayfly.wait_with_output().expect("mayfly ends"), pid)
}
