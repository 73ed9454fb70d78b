//! Shows the reader of `.gitlab-ci.yml` the repository at a pipeline's commit. git is asked when the reader asks.

use super::mirror::{GitError, Mirror};
use super::pipeline_row::Pipeline;
use crate::pipeline::Tree;

/// The tree of `pipeline`'s commit.
pub(super) fn tree<'m>(mirror: &'m Mirror, pipeline: &Pipeline) -> Result<Tree<'m>, GitError> {
    let sha = pipeline.sha.clone();
    let (read_at, differs_from, logged_from) = (sha.clone(), sha.clone(), sha.clone());
    Ok(Tree {
        files: mirror.files(&sha)?,
        changed: changed(mirror, pipeline),
        read: Box::new(move |path| mirror.file(&read_at, path).ok()),
        changed_since: Box::new(move |name| {
            let other = mirror.commit_of(name)?;
            let base = mirror.merge_base(&other, &differs_from)?;
            mirror.changed(&base, &differs_from).ok()
        }),
        last_commit: Box::new(move |path| mirror.last_commit(&logged_from, path)),
    })
}

/// What the event changed. Only a merge request, or a push to a branch that was there, has something to compare with.
fn changed(mirror: &Mirror, pipeline: &Pipeline) -> Option<Vec<String>> {
    let before = match &pipeline.merge_request {
        Some(request) => request.diff_base.as_str(),
        None => pipeline.before_sha.as_str(),
    };
    let nothing = before.bytes().all(|digit| digit == b'0');
    if nothing { None } else { mirror.changed(before, &pipeline.sha).ok() }
}
