//! What a snapshot holds, of every kind of directory, and that it leaves the directory as it was.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use super::event::EventOptions;
use super::git::Git;
use super::snapshot::Snapshot;

const MAIN: [&str; 3] = ["init", "--quiet", "--initial-branch=main"];

/// A directory of the user's.
struct User(TempDir);

impl User {
    fn directory() -> User {
        let user = User(tempfile::tempdir().expect("a directory"));
        user.write(".gitlab-ci.yml", "job: {script: [make]}\n");
        user
    }

    fn repository() -> User {
        let user = User::directory();
        user.git(&MAIN);
        user.commit("First\n\nWith a body.");
        user
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn git(&self, arguments: &[&str]) -> String {
        git_in(self.path(), arguments)
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn take(&self) -> Snapshot {
        take(self.path(), &EventOptions::default())
    }

    /// Every file with its bytes and times, `.git` included.
    fn listing(&self) -> BTreeMap<PathBuf, (Vec<u8>, Option<SystemTime>)> {
        let mut listing = BTreeMap::new();
        let mut ahead = vec![self.path().to_owned()];
        while let Some(path) = ahead.pop() {
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            if metadata.is_dir() {
                ahead.extend(fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
            }
            let bytes = if metadata.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            listing.insert(path, (bytes, metadata.modified().ok()));
        }
        listing
    }
}

fn git_in(directory: &Path, arguments: &[&str]) -> String {
    let git = Git::new(directory)
        .with("GIT_CONFIG_GLOBAL", "/dev/null")
        .set("user.name=Ada")
        .set("user.email=ada@example.com")
        .set("protocol.file.allow=always");
    git.text(arguments).expect("git does it")
}

fn take(directory: &Path, event: &EventOptions) -> Snapshot {
    Snapshot::take(directory, event, None).expect("a snapshot")
}

fn in_snapshot(snapshot: &Snapshot, arguments: &[&str]) -> String {
    Git::new(snapshot.path()).text(arguments).expect("git does it")
}

fn files(snapshot: &Snapshot) -> Vec<String> {
    let listed = in_snapshot(snapshot, &["ls-tree", "-r", "-z", "--name-only", &snapshot.commit]);
    listed.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn everything_that_git_would_take_is_in_it() {
    let user = User::repository();
    user.write("tracked.txt", "one");
    user.write("removed.txt", "one");
    user.write("build/kept.o", "tracked although ignored");
    let head = user.commit("Second");
    user.write(".gitignore", "build/\n*.log\n");
    user.write(".git/info/exclude", "excluded\n");
    user.write("tracked.txt", "two");
    user.write("new/staged.txt", "x");
    user.git(&["add", "new/staged.txt"]);
    user.write("untracked.txt", "x");
    user.write("build/other.o", "x");
    user.write("a.log", "x");
    user.write("excluded", "x");
    fs::remove_file(user.path().join("removed.txt")).expect("it was there");

    let snapshot = user.take();

    assert_eq!(
        files(&snapshot),
        [".gitignore", ".gitlab-ci.yml", "build/kept.o", "new/staged.txt", "tracked.txt", "untracked.txt"]
    );
    assert_eq!(in_snapshot(&snapshot, &["show", &format!("{}:tracked.txt", snapshot.commit)]), "two");
    assert_eq!(in_snapshot(&snapshot, &["rev-parse", &format!("{}^", snapshot.commit)]), head);
    assert_eq!((snapshot.ref_name.as_str(), snapshot.default_branch.as_str()), ("main", "main"));
    assert_eq!((snapshot.title.as_str(), snapshot.notes.len()), ("Second", 0));
}

#[test]
fn a_clean_tree_is_its_own_commit() {
    let user = User::repository();
    assert_eq!(user.take().commit, user.git(&["rev-parse", "HEAD"]));
}

#[test]
fn the_users_directory_stays_as_it_was() {
    let user = User::repository();
    user.git(&["branch", "other"]);
    user.git(&["tag", "v1"]);
    user.git(&["config", "core.fsmonitor", "true"]);
    user.git(&["config", "core.splitIndex", "true"]);
    user.write(".git/hooks/post-index-change", "#!/bin/sh\ntouch \"$(git rev-parse --show-toplevel)/hook-ran\"\n");
    let hook = user.path().join(".git/hooks/post-index-change");
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("rights");
    user.write("new.txt", "x");
    // As new as the index: git would like to write down that it has looked at the file again.
    user.write(".gitlab-ci.yml", "job: {script: [make all]}\n");
    let before = user.listing();

    let snapshot = user.take();

    assert_ne!(snapshot.commit, user.git(&["rev-parse", "HEAD"]));
    let after = user.listing();
    let changed: Vec<_> =
        after.iter().filter(|(path, was)| before.get(*path) != Some(was)).map(|(path, _)| path).collect();
    assert_eq!((changed, before.len()), (Vec::<&PathBuf>::new(), after.len()));
    let directory = snapshot.path().to_owned();
    drop(snapshot);
    assert!(!directory.exists(), "the snapshot is gone");
}

#[test]
fn branches_and_tags_come_along_and_objects_do_not() {
    let user = User::repository();
    let first = user.git(&["rev-parse", "HEAD"]);
    user.git(&["tag", "--annotate", "--message", "One", "v1"]);
    user.git(&["checkout", "--quiet", "-b", "feature/x"]);
    user.write("x", "x");

    let snapshot = user.take();

    assert_eq!(snapshot.ref_name, "feature/x");
    assert_eq!(in_snapshot(&snapshot, &["rev-parse", "refs/heads/feature/x"]), snapshot.commit);
    assert_eq!(in_snapshot(&snapshot, &["rev-parse", "refs/heads/main"]), first);
    assert_eq!(in_snapshot(&snapshot, &["cat-file", "-t", "refs/tags/v1"]), "tag");
    let counted = in_snapshot(&snapshot, &["count-objects"]);
    // A blob, a tree and a commit.
    assert!(counted.starts_with("3 objects"), "{counted}");
}

#[test]
fn a_subdirectory_stands_for_its_repository() {
    let user = User::repository();
    user.write("sub/deep/x", "x");
    let snapshot = take(&user.path().join("sub/deep"), &EventOptions::default());
    assert_eq!(files(&snapshot), [".gitlab-ci.yml", "sub/deep/x"]);
}

#[test]
fn a_linked_working_tree_is_taken_itself() {
    let user = User::repository();
    let other = tempfile::tempdir().expect("a directory");
    let tree = other.path().join("tree");
    user.git(&["worktree", "add", "--quiet", "-b", "side", &tree.to_string_lossy()]);
    fs::write(tree.join("side.txt"), "x").expect("a file");
    let snapshot = take(&tree, &EventOptions::default());
    assert_eq!((snapshot.ref_name.as_str(), files(&snapshot).len()), ("side", 2));
}

#[test]
fn a_detached_head_gets_a_branch_and_is_told_of() {
    let user = User::repository();
    user.git(&["checkout", "--quiet", "--detach"]);
    let snapshot = user.take();
    assert_eq!((snapshot.ref_name.as_str(), snapshot.notes.len()), ("detached", 1));
    let named = take(user.path(), &EventOptions { branch: Some("hotfix".into()), ..EventOptions::default() });
    assert_eq!((named.ref_name.as_str(), named.notes.len()), ("hotfix", 0));
}

#[test]
fn a_repository_without_commits_has_one_in_the_snapshot() {
    let user = User::directory();
    user.git(&["init", "--quiet", "--initial-branch=trunk"]);
    let snapshot = user.take();
    assert_eq!((snapshot.ref_name.as_str(), files(&snapshot)), ("trunk", vec![".gitlab-ci.yml".to_owned()]));
}

#[test]
fn a_directory_without_a_repository_becomes_one_commit() {
    let user = User::directory();
    user.write("src/main.rs", "x");
    user.write(".gitignore", "target\n");
    user.write("target/x", "x");
    let snapshot = user.take();
    assert_eq!(files(&snapshot), [".gitignore", ".gitlab-ci.yml", "src/main.rs"]);
    assert!(snapshot.notes[0].contains("no git repository"), "{:?}", snapshot.notes);
    assert!(!user.path().join(".git").exists());
}

#[test]
fn a_repository_of_sha256_stays_one() {
    let user = User::directory();
    user.git(&[&MAIN[..], &["--object-format=sha256"]].concat());
    user.commit("First");
    user.write("x", "x");
    assert_eq!(user.take().commit.len(), 64);
}

#[test]
fn files_and_directories_may_have_odd_names() {
    let top = tempfile::tempdir().expect("a directory");
    let odd = top.path().join(OsStr::from_bytes(b"a \"b\"\\\n\xff\xc3\xbc"));
    fs::create_dir(&odd).expect("a directory");
    git_in(&odd, &MAIN);
    fs::write(odd.join(".gitlab-ci.yml"), "job: {script: [make]}\n").expect("a file");
    git_in(&odd, &["add", "--all"]);
    git_in(&odd, &["commit", "--quiet", "--message", "First"]);
    fs::write(odd.join("new\nline"), "x").expect("a file");
    fs::write(odd.join("-rf"), "x").expect("a file");

    let snapshot = take(&odd, &EventOptions::default());

    assert_eq!(files(&snapshot), ["-rf", ".gitlab-ci.yml", "new\nline"]);
    assert_eq!(in_snapshot(&snapshot, &["rev-list", "--count", &snapshot.commit]), "2");
}

#[test]
fn a_submodule_stays_a_link() {
    let (user, module) = (User::repository(), User::repository());
    user.git(&["submodule", "--quiet", "add", &module.path().to_string_lossy(), "lib"]);
    user.commit("Add a module");
    user.write("lib/changed", "x");
    let snapshot = user.take();
    let entry = in_snapshot(&snapshot, &["ls-tree", &snapshot.commit, "lib"]);
    assert!(entry.starts_with("160000 commit"), "{entry}");
}

#[test]
fn a_tag_wins_over_a_branch_of_its_name() {
    let user = User::repository();
    user.git(&["branch", "v2"]);
    let snapshot = take(user.path(), &EventOptions { tag: Some("v2".into()), ..EventOptions::default() });
    assert_eq!(in_snapshot(&snapshot, &["for-each-ref", "--format=%(refname)", "refs/*/v2"]), "refs/tags/v2");
}

#[test]
fn the_default_branch_is_origins() {
    let (origin, user) = (User::repository(), User(tempfile::tempdir().expect("a directory")));
    origin.git(&["branch", "--move", "trunk"]);
    user.git(&["clone", "--quiet", &origin.path().to_string_lossy(), "."]);
    user.git(&["checkout", "--quiet", "-b", "feature"]);
    user.git(&["branch", "--quiet", "-D", "trunk"]);
    let snapshot = user.take();
    assert_eq!((snapshot.ref_name.as_str(), snapshot.default_branch.as_str()), ("feature", "trunk"));
    assert_eq!(in_snapshot(&snapshot, &["symbolic-ref", "HEAD"]), "refs/heads/trunk");
    assert!(!in_snapshot(&snapshot, &["rev-parse", "refs/heads/trunk"]).is_empty());
}

#[test]
fn without_an_origin_a_usual_name_is_the_default_branchs() {
    let user = User::repository();
    user.git(&["checkout", "--quiet", "-b", "feature"]);
    assert_eq!(user.take().default_branch, "main");
    user.git(&["branch", "--move", "main", "master"]);
    assert_eq!(user.take().default_branch, "master");
    user.git(&["branch", "--move", "master", "trunk"]);
    assert_eq!(user.take().default_branch, "feature");
}

#[test]
fn a_shallow_clone_ends_where_the_users_ends() {
    let (origin, user) = (User::repository(), User(tempfile::tempdir().expect("a directory")));
    origin.write("x", "x");
    origin.commit("Second");
    let url = format!("file://{}", origin.path().display());
    user.git(&["clone", "--quiet", "--depth=1", &url, "."]);
    user.write("y", "y");
    let snapshot = user.take();
    assert_eq!(in_snapshot(&snapshot, &["rev-list", "--count", &snapshot.commit]), "2");
}

#[test]
fn another_file_is_read_as_the_pipeline() {
    let user = User::repository();
    user.write("ci/other.yml", "other: {script: [make]}\n");
    let file = user.path().join("ci/other.yml");
    let snapshot = Snapshot::take(user.path(), &EventOptions::default(), Some(&file)).expect("a snapshot");
    let text = in_snapshot(&snapshot, &["show", &format!("{}:.gitlab-ci.yml", snapshot.commit)]);
    assert_eq!(text, "other: {script: [make]}");
}

#[test]
fn what_is_no_place_or_no_name_is_wrong_usage() {
    let user = User::repository();
    let error = Snapshot::take(&user.path().join("nowhere"), &EventOptions::default(), None).expect_err("no place");
    assert!(error.to_string().contains("there is no directory"), "{error}");
    let event = EventOptions { branch: Some("a..b".into()), ..EventOptions::default() };
    let error = Snapshot::take(user.path(), &event, None).expect_err("no name");
    assert!(error.to_string().contains("`a..b` is no name"), "{error}");
}
