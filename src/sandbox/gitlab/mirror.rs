//! Owns a project's bare mirror, so that the user's repository is only ever read.
//!
//! Pipelines live in the mirror as `refs/pipelines/<id>` (gitlab-protocol.md §10.1).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What git said instead of doing it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git itself could not be started.
    #[error("git could not be started: is it installed?")]
    Start(#[from] std::io::Error),
    /// git ended with an error.
    #[error("`git {command}` failed: {message}")]
    Failed {
        /// The first words of the command.
        command: String,
        /// The last line that it printed.
        message: String,
    },
}

pub(super) struct Mirror {
    source: PathBuf,
    bare: PathBuf,
    /// git locks single refs; making the mirror and fetching into it is ours to keep apart.
    lock: Mutex<()>,
}

/// A commit as payloads show it.
#[derive(Clone, Debug, Default)]
pub(super) struct Commit {
    pub message: String,
    pub author_name: String,
    pub author_email: String,
    pub timestamp: String,
}

/// What a branch or tag name stands for.
pub(super) struct Resolved {
    pub tag: bool,
    pub sha: String,
}

impl Mirror {
    pub fn new(source: &Path, bare: PathBuf) -> Self {
        // An absolute path, since git runs in the mirror.
        let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
        Mirror { source, bare, lock: Mutex::new(()) }
    }

    pub fn path(&self) -> &Path {
        &self.bare
    }

    /// Brings branches and tags up to the source's.
    pub fn refresh(&self) -> Result<(), GitError> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.bare.join("HEAD").exists() {
            let format = git(&self.source, &[&self.source], &["rev-parse", "--show-object-format"])?;
            std::fs::create_dir_all(&self.bare)?;
            git(&self.bare, &[], &["init", "--quiet", "--bare", &format!("--object-format={format}")])?;
            self.borrow_objects()?;
        }
        let source = self.source.to_string_lossy();
        let heads = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        let fetch = ["fetch", "--quiet", "--prune", "--no-auto-gc", "--update-head-ok", "--update-shallow"];
        let trusted = [self.source.as_path(), &self.source.join(".git")];
        git(&self.bare, &trusted, &[fetch.as_slice(), &[&source], &heads].concat())?;
        if let Ok(head) = git(&self.source, &trusted, &["symbolic-ref", "HEAD"]) {
            git(&self.bare, &[], &["symbolic-ref", "HEAD", &head])?;
        }
        Ok(())
    }

    /// Makes the mirror if it is not there yet.
    pub fn ensure(&self) -> Result<(), GitError> {
        if self.bare.join("HEAD").exists() { Ok(()) } else { self.refresh() }
    }

    pub fn default_branch(&self) -> Option<String> {
        // Not `--short`, which says `heads/main` where there is a tag `main`.
        let head = self.git(&["symbolic-ref", "HEAD"]).ok()?;
        head.strip_prefix("refs/heads/").map(str::to_owned)
    }

    /// The commit that the branch, or else the tag, `name` points to.
    pub fn resolve(&self, name: &str) -> Option<Resolved> {
        [(false, "refs/heads"), (true, "refs/tags")]
            .into_iter()
            .find_map(|(tag, folder)| Some(Resolved { tag, sha: self.verify(&format!("{folder}/{name}"))? }))
    }

    /// The commit that a branch, a tag, a whole ref or a hash stands for.
    pub fn commit_of(&self, name: &str) -> Option<String> {
        let is_hash = name.len() >= 7 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
        let whole = if is_hash || name.starts_with("refs/") { self.verify(name) } else { None };
        self.resolve(name).map(|resolved| resolved.sha).or(whole)
    }

    /// Every file of commit `sha`, with the id of its content.
    pub fn files(&self, sha: &str) -> Result<Vec<(String, String)>, GitError> {
        let listed = self.output(&["ls-tree", "-r", "-z", "--full-tree", sha])?;
        let file = |entry: &str| {
            let (meta, path) = entry.split_once('\t')?;
            Some((path.to_owned(), meta.rsplit(' ').next()?.to_owned()))
        };
        Ok(listed.split('\0').filter_map(file).collect())
    }

    /// The file `path` of commit `sha`.
    pub fn file(&self, sha: &str, path: &str) -> Result<String, GitError> {
        self.output(&["cat-file", "blob", &format!("{sha}:{path}")])
    }

    /// The paths that differ between two commits.
    pub fn changed(&self, from: &str, to: &str) -> Result<Vec<String>, GitError> {
        let plain = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff"];
        let listed = self.output(&[plain.as_slice(), &[from, to, "--"]].concat())?;
        Ok(listed.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Where two commits parted.
    pub fn merge_base(&self, one: &str, other: &str) -> Option<String> {
        self.git(&["merge-base", one, other]).ok()
    }

    /// The last commit up to `sha` that changed `path`.
    pub fn last_commit(&self, sha: &str, path: &str) -> Option<String> {
        let found = self.git(&["--literal-pathspecs", "log", "-1", "--format=%H", sha, "--", path]).ok()?;
        (!found.is_empty()).then_some(found)
    }

    /// `CI_COMMIT_TAG_MESSAGE`: empty for a tag that is only a name.
    pub fn tag_message(&self, name: &str) -> String {
        let tag = format!("refs/tags/{name}");
        let annotated = self.git(&["cat-file", "-t", &tag]).is_ok_and(|kind| kind == "tag");
        let message = || self.git(&["for-each-ref", "--count=1", "--format=%(contents)", "--", &tag]).ok();
        annotated.then(message).flatten().unwrap_or_default()
    }

    pub fn commit(&self, sha: &str) -> Result<Commit, GitError> {
        let shown = self.git(&["show", "-s", "--format=%an%x00%ae%x00%aI%x00%B", sha])?;
        let mut parts = shown.splitn(4, '\0').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Ok(Commit { author_name: next(), author_email: next(), timestamp: next(), message: next() })
    }

    /// Makes the persistent ref of a pipeline point to `wanted()`, or deletes it.
    pub fn settle_ref(&self, pipeline: u64, wanted: impl FnOnce() -> Option<String>) -> Result<(), GitError> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("refs/pipelines/{pipeline}");
        match wanted() {
            Some(sha) => self.git(&["update-ref", &name, &sha]).map(drop),
            None => self.git(&["update-ref", "-d", &name]).map(drop),
        }
    }

    /// Lets the mirror read the source's objects where they lie: a large repository is not copied.
    fn borrow_objects(&self) -> Result<(), GitError> {
        let ask = ["rev-parse", "--is-shallow-repository", "--path-format=absolute", "--git-path", "objects"];
        let answer = git(&self.source, &[&self.source], &ask)?;
        let (shallow, objects) = answer.split_once('\n').unwrap_or_default();
        // A fetch that needs no object does not learn where a shallow history ends: that one is copied, as is one
        // whose path is no line.
        if shallow == "false" && !objects.contains('\n') {
            std::fs::write(self.bare.join("objects/info/alternates"), format!("{objects}\n"))?;
        }
        Ok(())
    }

    fn verify(&self, name: &str) -> Option<String> {
        self.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")]).ok()
    }

    fn git(&self, args: &[&str]) -> Result<String, GitError> {
        git(&self.bare, &[&self.bare], args)
    }

    /// All that git prints, to the last byte.
    fn output(&self, args: &[&str]) -> Result<String, GitError> {
        output(command(&self.bare, &[&self.bare]).args(args))
    }
}

/// A git command that neither the machine's nor the user's configuration changes.
pub(super) fn environment(trusted: &[&Path], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> =
        trusted.iter().map(|path| ("safe.directory".to_owned(), path.to_string_lossy().into_owned())).collect();
    settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let mut environment = vec![
        ("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned()),
        ("GIT_CONFIG_GLOBAL".to_owned(), "/dev/null".to_owned()),
        ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        ("LC_ALL".to_owned(), "C".to_owned()),
        ("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()),
    ];
    for (index, (key, value)) in settings.into_iter().enumerate() {
        environment.push((format!("GIT_CONFIG_KEY_{index}"), key));
        environment.push((format!("GIT_CONFIG_VALUE_{index}"), value));
    }
    environment
}

/// What a surrounding git (a hook that runs our tests) would say about *its* repository.
pub(super) const INHERITED: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

fn git(folder: &Path, trusted: &[&Path], args: &[&str]) -> Result<String, GitError> {
    output(command(folder, trusted).args(args)).map(|text| text.trim_end().to_owned())
}

fn command(folder: &Path, trusted: &[&Path]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).stdin(Stdio::null());
    for name in INHERITED {
        command.env_remove(name);
    }
    command.envs(environment(trusted, &[]));
    command
}

fn output(command: &mut Command) -> Result<String, GitError> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<_> = command.get_args().skip(2).take(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let message = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it said nothing").to_owned();
    Err(GitError::Failed { command: words.join(" "), message })
}

impl Commit {
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sandbox::gitlab) fn git(folder: &Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(folder).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(args);
        let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git starts");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    pub(in crate::sandbox::gitlab) fn commit(folder: &Path, files: &[&str]) -> String {
        for path in files {
            std::fs::create_dir_all(folder.join(path).parent().expect("a folder")).expect("it is made");
            std::fs::write(folder.join(path), format!("{path} of {}", folder.display())).expect("it is written");
        }
        git(folder, &["add", "--all"]);
        git(folder, &["commit", "--quiet", "--allow-empty", "--message", "x"]);
        git(folder, &["rev-parse", "HEAD"])
    }

    /// Objects and packs that the mirror has itself.
    fn own_objects(bare: &Path) -> String {
        git(bare, &["count-objects", "-v"])
            .lines()
            .filter(|line| line.starts_with("count") || line.starts_with("in-pack"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn a_mirror_copies_no_object_of_a_repository_a_worktree_or_a_clone_that_borrows_itself() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("source")).expect("it is made");
        git(&at("source"), &["init", "--quiet", "--initial-branch=main"]);
        commit(&at("source"), &["a"]);
        git(&at("source"), &["worktree", "add", "--quiet", "-b", "topic", "../tree"]);
        git(root.path(), &["clone", "--quiet", "--shared", "source", "clone"]);
        for name in ["source", "tree", "clone"] {
            let bare = at(&format!("{name}.git"));
            let mirror = Mirror::new(&at(name), bare.clone());
            for round in ["first", "second"] {
                let sha = commit(&at(name), &[round]);
                mirror.refresh().expect("it is mirrored");

                let branch = git(&at(name), &["branch", "--show-current"]);
                assert_eq!(mirror.resolve(&branch).expect("a branch").sha, sha);
                assert_eq!(mirror.file(&sha, round).expect("a file"), format!("{round} of {}", at(name).display()));
                assert_eq!(own_objects(&bare), "count: 0, in-pack: 0", "{name}");
            }
        }
    }

    #[test]
    fn a_shallow_clone_and_one_of_sha256_are_mirrored() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("long")).expect("it is made");
        git(&at("long"), &["init", "--quiet", "--initial-branch=main", "--object-format=sha256"]);
        commit(&at("long"), &["a"]);
        let last = commit(&at("long"), &["b"]);
        let url = format!("file://{}", at("long").display());
        git(root.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
        let mirror = Mirror::new(&at("shallow"), at("shallow.git"));

        mirror.refresh().expect("it is mirrored");

        assert_eq!((mirror.resolve("main").expect("a branch").sha, last.len()), (last.clone(), 64));
        git(root.path(), &["clone", "--quiet", &format!("file://{}", at("shallow.git").display()), "again"]);
        assert!(at("again").join("b").exists());
    }
}
