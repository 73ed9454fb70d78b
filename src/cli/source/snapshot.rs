//! Makes a commit of a directory as it stands, uncommitted changes included, in a repository of its own.
//!
//! Nothing is written below the user's directory: git reads their working tree, objects and configuration, and writes a
//! copy of their index and new objects into a bare repository beside it, which borrows all other objects.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::cli::exit::Usage;

use super::event::EventOptions;
use super::git::Git;
use super::repository::Repository;

/// The branch of a detached HEAD, unless `--branch` names one.
const DETACHED: &str = "detached";
/// The default branch where nobody says another.
const MAIN: &str = "main";
/// Where GitLab looks for a pipeline.
const PIPELINE_FILE: &str = ".gitlab-ci.yml";

/// A directory as it stood, as a commit. Gone when dropped.
#[derive(Debug)]
pub(in crate::cli) struct Snapshot {
    directory: TempDir,
    /// The top of the working tree that was taken.
    pub(in crate::cli) top: PathBuf,
    /// The branch or tag that the pipeline runs for; for a merge request its source branch.
    pub(in crate::cli) ref_name: String,
    /// The branch that others are merged into.
    pub(in crate::cli) default_branch: String,
    /// The project's path, `group/app`.
    pub(in crate::cli) project_path: String,
    /// The commit.
    pub(in crate::cli) commit: String,
    /// The first line of its message.
    pub(in crate::cli) title: String,
    /// What the user should know about it.
    pub(in crate::cli) notes: Vec<String>,
}

impl Snapshot {
    /// Takes the repository that `directory` lies in, or the directory itself if it lies in none.
    ///
    /// `pipeline` is read instead of the repository's `.gitlab-ci.yml`.
    pub(in crate::cli) fn take(
        directory: &Path,
        event: &EventOptions,
        pipeline: Option<&Path>,
    ) -> anyhow::Result<Snapshot> {
        let directory = fs::canonicalize(directory)
            .ok()
            .filter(|found| found.is_dir())
            .ok_or_else(|| Usage::error(format!("there is no directory `{}`", directory.display())))?;
        let bare = tempfile::Builder::new().prefix("mayfly-source-").tempdir().context("making a directory")?;
        let repository = Repository::find(&directory)?;
        // The file that GitLab would read anyway is in the tree.
        let top = repository.as_ref().map_or(&directory, |repository| &repository.top);
        let usual = fs::canonicalize(top.join(PIPELINE_FILE)).ok();
        let pipeline = pipeline.filter(|pipeline| usual.is_none() || fs::canonicalize(pipeline).ok() != usual);
        match repository {
            Some(repository) => of_repository(bare, &repository, event, pipeline),
            None => of_directory(bare, directory, event, pipeline),
        }
    }

    /// The bare repository.
    pub(in crate::cli) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn of_repository(
    bare: TempDir,
    repository: &Repository,
    event: &EventOptions,
    pipeline: Option<&Path>,
) -> anyhow::Result<Snapshot> {
    let mut notes = Vec::new();
    let branch = event.branch.clone().or_else(|| repository.branch.clone()).unwrap_or_else(|| {
        if event.tag.is_none() {
            notes.push(format!(
                "HEAD is detached: the pipeline runs for a branch called `{DETACHED}`; `--branch NAME` names another"
            ));
        }
        DETACHED.to_owned()
    });
    let default_branch = repository.default_branch.clone();

    init(bare.path(), &repository.format)?;
    fs::write(bare.path().join("objects/info/alternates"), alternate(&repository.objects))?;
    if repository.shallow.is_file() {
        fs::copy(&repository.shallow, bare.path().join("shallow"))?;
    }
    let index = bare.path().join("index");
    if repository.index.is_file() {
        fs::copy(&repository.index, &index).context("copying the index")?;
    }
    let git = writing_elsewhere(repository.git(), bare.path());
    let tree = tree(&git, &repository.top, pipeline)?;
    let commit = match &repository.head {
        Some(head) if git.text(&["rev-parse", &format!("{head}^{{tree}}")])? == tree => head.clone(),
        head => {
            let message = match head {
                Some(head) => git.text(&["log", "-1", "--no-show-signature", "--format=%B", head])?,
                None => "The working tree".to_owned(),
            };
            commit(&git, &tree, head.as_deref(), &message)?
        }
    };
    let inside = Git::new(bare.path());
    copy_refs(repository, &inside)?;
    for name in [Some(&default_branch), event.target()].into_iter().flatten() {
        borrow_from_origin(repository, &inside, name)?;
    }
    let ref_name = name_commit(&inside, event, &branch, &commit)?;
    inside.text(&["symbolic-ref", "HEAD", &format!("refs/heads/{default_branch}")])?;
    if let Some(target) = event.target()
        && inside.ask(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{target}")]).is_none()
    {
        return Err(Usage::error(format!("there is no branch `{target}` to merge into")));
    }
    finished(bare, repository.top.clone(), repository.path.clone(), Named { ref_name, default_branch, commit }, notes)
}

/// All files of a directory that no repository holds.
fn of_directory(
    bare: TempDir,
    directory: PathBuf,
    event: &EventOptions,
    pipeline: Option<&Path>,
) -> anyhow::Result<Snapshot> {
    init(bare.path(), "sha1")?;
    let git = Git::new(&directory).with("GIT_DIR", bare.path()).with("GIT_WORK_TREE", &directory);
    let git = writing_elsewhere(git, bare.path());
    let mut notes = Vec::new();
    let tree = match pipeline {
        // A single file anywhere, for example in `/tmp`: its neighbours are no project.
        Some(pipeline) => {
            place_pipeline(&git, pipeline)?;
            git.text(&["write-tree"])?
        }
        None => {
            notes.push(format!("`{}` is no git repository: all its files become one commit", directory.display()));
            tree(&git, &directory, None)?
        }
    };
    let commit = commit(&git, &tree, None, "The directory")?;
    let branch = event.branch.clone().unwrap_or_else(|| MAIN.to_owned());
    let inside = Git::new(bare.path());
    let ref_name = name_commit(&inside, event, &branch, &commit)?;
    inside.text(&["symbolic-ref", "HEAD", &format!("refs/heads/{MAIN}")])?;
    if let Some(target) = event.target() {
        return Err(Usage::error(format!("there is no branch `{target}` to merge into")));
    }
    let named = Named { ref_name, default_branch: MAIN.to_owned(), commit };
    finished(bare, directory, None, named, notes)
}

struct Named {
    ref_name: String,
    default_branch: String,
    commit: String,
}

fn finished(
    bare: TempDir,
    top: PathBuf,
    path: Option<String>,
    named: Named,
    notes: Vec<String>,
) -> anyhow::Result<Snapshot> {
    let Named { ref_name, default_branch, commit } = named;
    let title = Git::new(bare.path()).text(&["log", "-1", "--no-show-signature", "--format=%s", &commit])?;
    let project_path = path.unwrap_or_else(|| format!("local/{}", slug(&top)));
    Ok(Snapshot { directory: bare, top, ref_name, default_branch, project_path, commit, title, notes })
}

fn init(bare: &Path, format: &str) -> anyhow::Result<()> {
    Git::new(bare).text(&["init", "--quiet", "--bare", "--template=", &format!("--object-format={format}")])?;
    Ok(())
}

/// git that reads a working tree and writes into `bare` alone.
fn writing_elsewhere(git: Git, bare: &Path) -> Git {
    let mut lfs = std::ffi::OsString::from("lfs.storage=");
    lfs.push(bare.join("lfs"));
    // All of these would write into the user's repository: hooks may do anything, a monitor leaves its socket, a split
    // index its other half, the filter of LFS what it has cleaned.
    git.with("GIT_INDEX_FILE", bare.join("index"))
        .with("GIT_OBJECT_DIRECTORY", bare.join("objects"))
        .set("core.hooksPath=/dev/null")
        .set("core.fsmonitor=false")
        .set("core.splitIndex=false")
        .set("core.safecrlf=false")
        .set("advice.addEmbeddedRepo=false")
        .set(lfs)
}

/// The tree of everything that git would take from the working tree.
fn tree(git: &Git, top: &Path, pipeline: Option<&Path>) -> anyhow::Result<String> {
    git.text(&["add", "--all", "--", "."]).with_context(|| format!("reading `{}`", top.display()))?;
    if let Some(pipeline) = pipeline {
        place_pipeline(git, pipeline)?;
    }
    Ok(git.text(&["write-tree"])?)
}

/// Puts `pipeline` where GitLab looks for a pipeline.
fn place_pipeline(git: &Git, pipeline: &Path) -> anyhow::Result<()> {
    let text = fs::read(pipeline).map_err(|error| Usage::error(format!("`{}`: {error}", pipeline.display())))?;
    let blob = git.feed(&["hash-object", "-w", "--stdin"], &text)?;
    git.text(&["update-index", "--add", "--replace", "--cacheinfo", &format!("100644,{blob},{PIPELINE_FILE}")])?;
    Ok(())
}

fn commit(git: &Git, tree: &str, parent: Option<&str>, message: &str) -> anyhow::Result<String> {
    let setting = |name: &str, default: &str| git.ask(&["config", "--get", name]).unwrap_or_else(|| default.to_owned());
    let (name, email) = (setting("user.name", "Mayfly"), setting("user.email", "mayfly@localhost"));
    let git = git
        .clone()
        .with("GIT_AUTHOR_NAME", &name)
        .with("GIT_AUTHOR_EMAIL", &email)
        .with("GIT_COMMITTER_NAME", &name)
        .with("GIT_COMMITTER_EMAIL", &email);
    let mut arguments = vec!["commit-tree", tree];
    arguments.extend(parent.iter().flat_map(|parent| ["-p", parent]));
    Ok(git.feed(&arguments, message.as_bytes())?)
}

fn copy_refs(repository: &Repository, inside: &Git) -> anyhow::Result<()> {
    let format = "--format=create %(refname) %(objectname)";
    let refs = repository.git().text(&["for-each-ref", format, "refs/heads", "refs/tags"])?;
    if !refs.is_empty() {
        inside.feed(&["update-ref", "--stdin"], format!("{refs}\n").as_bytes()).context("copying branches and tags")?;
    }
    Ok(())
}

/// A branch that the user never checked out is there as its last fetch left it.
fn borrow_from_origin(repository: &Repository, inside: &Git, name: &str) -> anyhow::Result<()> {
    let local = format!("refs/heads/{name}");
    if inside.ask(&["rev-parse", "--verify", "--quiet", &local]).is_some() {
        return Ok(());
    }
    let remote = format!("refs/remotes/origin/{name}^{{commit}}");
    if let Some(commit) = repository.git().ask(&["rev-parse", "--verify", "--quiet", &remote]) {
        inside.text(&["update-ref", &local, &commit])?;
    }
    Ok(())
}

/// Lets the pipeline's branch or tag be `commit`.
fn name_commit(inside: &Git, event: &EventOptions, branch: &str, commit: &str) -> anyhow::Result<String> {
    let (folder, name) = match &event.tag {
        Some(tag) => ("refs/tags", tag.as_str()),
        None => ("refs/heads", branch),
    };
    let full = format!("{folder}/{name}");
    if inside.text(&["check-ref-format", &full]).is_err() {
        return Err(Usage::error(format!("`{name}` is no name for a branch or tag")));
    }
    if event.tag.is_some() {
        // GitLab takes a name for a branch's first.
        inside.text(&["update-ref", "-d", &format!("refs/heads/{name}")])?;
    }
    inside.text(&["update-ref", &full, commit])?;
    Ok(name.to_owned())
}

/// A line of `objects/info/alternates`; quoted as C does, for a path may hold anything.
fn alternate(objects: &Path) -> Vec<u8> {
    let mut line = vec![b'"'];
    for byte in objects.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => line.extend([b'\\', *byte]),
            0..=31 | 127..=255 => line.extend(format!("\\{byte:03o}").bytes()),
            byte => line.push(*byte),
        }
    }
    line.extend(*b"\"\n");
    line
}

/// A directory's name as a project's.
fn slug(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let legal = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(legal).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "project".to_owned() } else { name.to_owned() }
}
