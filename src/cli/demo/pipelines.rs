//! The repositories that the demo runs: a cache between two jobs, and Python with a cache of packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A repository of the demo.
pub(super) struct DemoPipeline {
    /// The project's path.
    pub(super) path: &'static str,
    /// What people read above it.
    pub(super) title: &'static str,
    /// Its files.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// How often it runs.
    pub(super) passes: u32,
}

const SHARED_CACHE: &str = "\
image: busybox:latest
stages: [build, test]
cache:
  key: ${CI_COMMIT_REF_SLUG}
  paths: [vendor/]
before_script:
  - echo \"Before script section\"
after_script:
  - echo \"After script section\"
build1:
  stage: build
  script:
    - mkdir -p vendor
    - echo \"build\" > vendor/hello.txt
test1:
  stage: test
  script:
    - cat vendor/hello.txt
";

const PYTHON: &str = "\
image: python:3.13
variables:
  PIP_CACHE_DIR: \"$CI_PROJECT_DIR/.cache/pip\"
cache:
  key: $CI_COMMIT_REF_SLUG
  paths: [.cache/pip/]
install:
  stage: build
  tags: [mayfly, cpu-2, mem-4g]
  script:
    - python3 install.py requirements.txt
    - mkdir -p dist
    - python3 -c \"print('wheel')\" > dist/app.whl
  artifacts:
    paths: [dist/]
test:
  stage: test
  script:
    - test -f dist/app.whl
    - python3 install.py requirements.txt
    - python3 -m unittest -q
";

/// As pip does: a package that is in the cache is taken from there, any other one has to be built.
const INSTALL: &str = r#"import hashlib, os, pathlib, sys, time
cache = pathlib.Path(os.environ["PIP_CACHE_DIR"])
cache.mkdir(parents=True, exist_ok=True)
begin = time.monotonic()
for name in pathlib.Path(sys.argv[1]).read_text().split():
    wheel = cache / f"{name}.whl"
    if wheel.exists():
        print(f"Using cached {name} ({wheel.stat().st_size} bytes)")
    else:
        print(f"Building wheel for {name} ...")
        block, out = name.encode(), []
        for _ in range(600_000):
            block = hashlib.sha512(block).digest()
            out.append(block[:4])
        wheel.write_bytes(b"".join(out))
print(f"Installed in {time.monotonic() - begin:.1f} s")
"#;

const REQUIREMENTS: &str =
    "numpy\npandas\nrequests\nflask\nsqlalchemy\ncryptography\nlxml\npillow\nscipy\nmatplotlib\n";

const TEST: &str = "import unittest\n\n\nclass Arithmetic(unittest.TestCase):\n    def test_sum(self):\n        self.assertEqual(sum(range(5)), 10)\n";

/// The demo's repositories, in the order in which they run.
pub(super) fn all() -> anyhow::Result<Vec<DemoPipeline>> {
    for program in ["git", "python3", "wget"] {
        let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        ensure!(found, "the demo needs `{program}` on this machine: install it with the system's package manager");
    }
    Ok(vec![
        DemoPipeline {
            path: "demo/shared-cache",
            title: "A cache between two jobs on different machines",
            files: &[(".gitlab-ci.yml", SHARED_CACHE)],
            passes: 1,
        },
        DemoPipeline {
            path: "demo/python",
            title: "Python with a cache of its packages",
            files: &[
                (".gitlab-ci.yml", PYTHON),
                ("install.py", INSTALL),
                ("requirements.txt", REQUIREMENTS),
                ("test_sum.py", TEST),
            ],
            passes: 2,
        },
    ])
}

/// A git repository with `files` on `main`.
pub(super) fn repository(files: &[(&str, &str)]) -> anyhow::Result<TempDir> {
    let directory = tempfile::tempdir()?;
    for (name, text) in files {
        fs::write(directory.path().join(name), text)?;
    }
    git(directory.path(), &["init", "--quiet", "--initial-branch=main"])?;
    git(directory.path(), &["add", "--all"])?;
    let identity = ["-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false"];
    git(directory.path(), &[&identity[..], &["commit", "--quiet", "--message", "Add a pipeline"]].concat())?;
    Ok(directory)
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().context("running git")?;
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
