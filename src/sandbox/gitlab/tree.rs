//! Shows the reader of `.gitlab-ci.yml` the repository at a pipeline's commit. git is asked when the reader asks.

use super::mirror::{GitError, Mirror};
use crate::pipeline::Tree;

/// The tree of commit `sha`, which changed what differs from `before`.
pub(super) fn tree<'m>(mirror: &'m Mirror, sha: &str, before: Option<&str>) -> Result<Tree<'m>, GitError> {
    let (read_at, differs_from, logged_from) = (sha.to_owned(), sha.to_owned(), sha.to_owned());
    Ok(Tree {
        files: mirror.files(sha)?,
        changed: before.and_then(|before| mirror.changed(before, sha).ok()),
        read: Box::new(move |path| mirror.file(&read_at, path).ok()),
        changed_since: Box::new(move |name| {
            let other = mirror.commit_of(name)?;
            let base = mirror.merge_base(&other, &differs_from)?;
            mirror.changed(&base, &differs_from).ok()
        }),
        last_commit: Box::new(move |path| mirror.last_commit(&logged_from, path)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::mirror::tests::{commit, git};
    use super::*;

    #[test]
    fn paths_and_refs_are_what_they_are_whatever_they_look_like() {
        let root = tempfile::tempdir().expect("a folder");
        let source = root.path().join("source");
        std::fs::create_dir(&source).expect("it is made");
        git(&source, &["init", "--quiet", "--initial-branch=main"]);
        let strange = ["--output=x", "a b\nc", ":(glob)*", "ä/ö"];
        let first = commit(&source, &strange);
        git(&source, &["branch", "topic"]);
        git(&source, &["update-ref", "refs/heads/--all", &first]);
        let second = commit(&source, &["more"]);
        git(&source, &["checkout", "--quiet", "topic"]);
        commit(&source, &["other"]);
        let mirror = Mirror::new(&source, root.path().join("bare.git"));
        mirror.refresh().expect("it is mirrored");

        let tree = tree(&mirror, &second, Some(&first)).expect("a tree");

        let paths: Vec<&str> = tree.files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["--output=x", ":(glob)*", "a b\nc", "more", "ä/ö"]);
        assert_eq!(tree.files[3].1, git(&source, &["rev-parse", &format!("{second}:more")]));
        assert_eq!(tree.changed, Some(vec!["more".to_owned()]));
        for path in strange {
            assert!((tree.read)(path).is_some_and(|text| text.starts_with(path)), "{path}");
            assert_eq!((tree.last_commit)(path).as_ref(), Some(&first), "{path}");
        }
        assert_eq!((tree.read)("ä"), None);
        assert_eq!((tree.read)("none"), None);
        assert_eq!((tree.last_commit)("none"), None);
        for name in ["topic", "--all", "refs/heads/topic", &first[..8]] {
            assert_eq!((tree.changed_since)(name), Some(vec!["more".to_owned()]), "{name}");
        }
        for name in ["nope", "--branches", "HEAD", ""] {
            assert_eq!((tree.changed_since)(name), None, "{name}");
        }
    }
}
