//! A user: a repository, a home, and `mayfly` in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use regex::Regex;
use tempfile::TempDir;

/// A repository, and a home and a room for temporary files of its own.
pub struct User {
    pub repository: TempDir,
    home: TempDir,
    room: TempDir,
}

/// What a command came to.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl User {
    /// With these files committed on `main`.
    pub fn with(files: &[(&str, &str)]) -> User {
        let directory = || tempfile::tempdir().expect("a directory");
        let user = User { repository: directory(), home: directory(), room: directory() };
        files.iter().for_each(|(name, text)| user.write(name, text));
        user.git(&["init", "--quiet", "--initial-branch=main"]);
        user.git(&["add", "--all"]);
        user.git(&["commit", "--quiet", "--allow-empty", "--message", "First"]);
        user
    }

    /// With this pipeline.
    pub fn of(pipeline: &str) -> User {
        User::with(&[(".gitlab-ci.yml", pipeline)])
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.repository.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"];
        let mut git = Command::new("git");
        git.arg("-C").arg(self.repository.path()).args(identity).args(arguments);
        let output = self.at_home(&mut git).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// `mayfly` with these arguments, in the repository.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut mayfly = Command::new(env!("CARGO_BIN_EXE_mayfly"));
        mayfly.args(arguments).current_dir(self.repository.path()).stdin(Stdio::null());
        self.at_home(&mut mayfly);
        mayfly
    }

    /// Runs `mayfly`, and looks that nothing is left of it but what is kept at home.
    pub fn mayfly(&self, arguments: &[&str]) -> Done {
        let done = Done::of(self.command(arguments).output().expect("mayfly runs"));
        self.nothing_is_left();
        done
    }

    /// No process and no file of a run is left.
    pub fn nothing_is_left(&self) {
        let room = self.room.path().to_string_lossy().into_owned();
        let left: Vec<String> = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| {
                let process = entry.ok()?.path();
                let is_ours = |name: &str| {
                    let bytes = fs::read(process.join(name)).unwrap_or_default();
                    String::from_utf8_lossy(&bytes).contains(&room)
                };
                (is_ours("environ") || is_ours("cmdline")).then(|| process.display().to_string())
            })
            .collect();
        assert_eq!(left, Vec::<String>::new(), "processes are left");
        let files: Vec<PathBuf> =
            fs::read_dir(&room).expect("the room").map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(files, Vec::<PathBuf>::new(), "files are left");
    }

    /// The directory that this repository's runs are kept in.
    pub fn kept(&self) -> PathBuf {
        let mayfly = self.home.path().join(".cache/mayfly");
        let mut kept = fs::read_dir(mayfly).expect("something is kept").map(|entry| entry.expect("an entry").path());
        let one = kept.next().expect("a directory");
        assert!(kept.next().is_none(), "runs of one directory share one place");
        one
    }

    /// The output without what differs from run to run.
    pub fn normal(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, name) in [(&self.repository, "[REPOSITORY]"), (&self.home, "[HOME]"), (&self.room, "[ROOM]")] {
            let directory = place.path();
            text = text.replace(&*directory.to_string_lossy(), name);
            let base = directory.file_name().expect("a name").to_string_lossy().into_owned();
            text = text.replace(base.trim_start_matches('.'), name);
        }
        for (pattern, name) in [
            (r"\b[0-9]+:[0-9]{2}\b", "[TIME]"),
            (r"\b[0-9a-f]{8}\b", "[HASH]"),
            (r"\$[0-9]\.[0-9]{5}", "[PRICE]"),
            // Some shells say so when a command of theirs is ended.
            (r"(?m)^.*\bTerminated\b.*\n", ""),
        ] {
            text = Regex::new(pattern).expect("a pattern").replace_all(&text, name).into_owned();
        }
        text
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.home.path()).env("TMPDIR", self.room.path())
    }
}

impl Done {
    pub fn of(output: Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Its output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Every file beneath `directory` with its bytes.
pub fn listing(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else {
            files.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
    files.sort();
    files
}
