//! Looks at the user's repository, and only looks.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::exit::Usage;

use super::git::{Git, GitError};

/// The names of default branches.
const USUAL: [&str; 2] = ["main", "master"];

/// A git repository with a working tree.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Repository {
    /// The top of the working tree.
    pub(in crate::cli) top: PathBuf,
    /// Where its objects lie; shared by all its working trees.
    pub(in crate::cli) objects: PathBuf,
    /// This working tree's index.
    pub(in crate::cli) index: PathBuf,
    /// Where the commits are named at which a shallow clone ends.
    pub(in crate::cli) shallow: PathBuf,
    /// `sha1` or `sha256`.
    pub(in crate::cli) format: String,
    /// The commit that is checked out; none in a repository without commits.
    pub(in crate::cli) head: Option<String>,
    /// The branch that is checked out; none with a detached HEAD.
    pub(in crate::cli) branch: Option<String>,
    /// The branch that others are merged into, as far as the repository tells.
    pub(in crate::cli) default_branch: String,
    /// `group/app`, as `origin` is called there.
    pub(in crate::cli) path: Option<String>,
}

impl Repository {
    /// The repository that `directory` lies in; `None` if it lies in none.
    pub(in crate::cli) fn find(directory: &Path) -> anyhow::Result<Option<Repository>> {
        let here = Git::new(directory);
        let top = match here.path(&["rev-parse", "--show-toplevel"]) {
            Ok(top) => top,
            Err(GitError::Failed { message, .. }) if message.contains("not a git repository") => return Ok(None),
            Err(GitError::Failed { message, .. }) => {
                return Err(Usage::error(format!("`{}`: {message}", directory.display())));
            }
            Err(error) => return Err(error.into()),
        };
        let git = Git::new(&top);
        let place = |name: &str| git.path(&["rev-parse", "--path-format=absolute", "--git-path", name]);
        let origin = git.ask(&["config", "--get", "remote.origin.url"]);
        // A whole name: a short one has more in front where a tag is called alike.
        let head = git.ask(&["symbolic-ref", "--quiet", "HEAD"]);
        let branch = head.and_then(|name| Some(name.strip_prefix("refs/heads/")?.to_owned()));
        Ok(Some(Repository {
            objects: place("objects").context("looking for the repository's objects")?,
            index: place("index")?,
            shallow: place("shallow")?,
            format: git.text(&["rev-parse", "--show-object-format"])?,
            head: git.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]),
            default_branch: default_branch(&git, branch.as_deref()),
            branch,
            path: origin.as_deref().and_then(project_path),
            top,
        }))
    }

    /// git in the working tree.
    pub(super) fn git(&self) -> Git {
        Git::new(&self.top)
    }
}

/// What `origin` calls its default; where it does not say, the usual names, and then whatever is checked out.
fn default_branch(git: &Git, current: Option<&str>) -> String {
    if let Some(head) = git.ask(&["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"])
        && let Some(name) = head.strip_prefix("refs/remotes/origin/")
    {
        return name.to_owned();
    }
    let exists = |name: &&str| {
        let is_ref =
            |folder: &str| git.ask(&["rev-parse", "--verify", "--quiet", &format!("{folder}/{name}")]).is_some();
        is_ref("refs/heads") || is_ref("refs/remotes/origin")
    };
    let usual = USUAL.into_iter().find(|name| current == Some(*name)).or_else(|| USUAL.into_iter().find(exists));
    usual.or(current).unwrap_or(USUAL[0]).to_owned()
}

/// `group/app` of a remote's URL: `git@host:group/app.git`, `https://host/group/app`.
fn project_path(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some(("http" | "https" | "ssh" | "git", rest)) => rest.split_once('/')?.1,
        Some(_) => return None,
        // A colon behind a slash is part of a local path.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_matches('/');
    let legal = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (path.contains('/') && path.split('/').all(legal)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_tells_the_projects_path() {
        for (url, path) in [
            ("git@gitlab.com:group/sub/app.git", Some("group/sub/app")),
            ("https://user:secret@gitlab.test:8443/group/app.git/", Some("group/app")),
            ("ssh://git@gitlab.test:2222/group/app", Some("group/app")),
            ("/srv/git/app.git", None),
            ("../app:old/x.git", None),
            ("file:///srv/git/app.git", None),
            ("https://gitlab.test/app", None),
            ("https://gitlab.test/a b/c", None),
        ] {
            assert_eq!(project_path(url).as_deref(), path, "{url}");
        }
    }
}
