//! The event that a pipeline runs for is the user's to say.

use crate::support::User;

const PIPELINE: &str = "\
push: {script: [make], rules: [{if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH}]}
branch: {script: [make], rules: [{if: $CI_COMMIT_BRANCH == 'feature/x'}]}
tag: {script: [make], rules: [{if: $CI_COMMIT_TAG == 'v1'}]}
request: {script: [make], rules: [{if: $CI_MERGE_REQUEST_TARGET_BRANCH_NAME == 'main'}]}
variable: {script: [make], rules: [{if: $WANTED == 'a=b'}]}
docs: {script: [make], rules: [{if: $CI_MERGE_REQUEST_IID, changes: [docs/*]}]}
";

#[test]
fn the_event_decides_which_jobs_there_are() {
    let user = User::of(PIPELINE);
    for (options, expected) in [
        (&[][..], &["push"][..]),
        (&["--branch", "feature/x"], &["branch"]),
        (&["--tag", "v1"], &["tag"]),
        (&["--branch", "feature/x", "--merge-request"], &["request"]),
        (&["--branch", "feature/x", "--merge-request=main"], &["request"]),
        (&["--variable", "WANTED=a=b"], &["push", "variable"]),
    ] {
        assert_eq!(jobs(&user, options), expected, "{options:?}");
    }
}

#[test]
fn a_merge_request_is_compared_with_its_target() {
    let user = User::of(PIPELINE);
    user.git(&["checkout", "--quiet", "-b", "feature"]);
    user.write("docs/new.md", "not even added");
    assert_eq!(jobs(&user, &["--merge-request"]), ["request", "docs"]);
}

fn jobs(user: &User, options: &[&str]) -> Vec<String> {
    let done = user.mayfly(&[&["run", "--list", "--json"], options].concat());
    let document = done.json();
    let jobs = document["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
    jobs.iter().filter_map(|job| Some(job["name"].as_str()?.to_owned())).collect()
}
