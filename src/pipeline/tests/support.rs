//! What the reader's tests share.

pub(super) use crate::pipeline::{Job, Pipeline, ReadError, Request, Tree, create};

/// A push to `main`, which changed nothing that anybody knows.
pub(super) fn request<'a>(files: &'a [(&'a str, &'a str)]) -> Request<'a> {
    let variables = [
        ("CI", "true"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_COMMIT_REF_NAME", "main"),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_PROJECT_PATH", "group/app"),
    ];
    Request {
        path: ".gitlab-ci.yml",
        variables: variables.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        settings: Vec::new(),
        inputs: Vec::new(),
        tree: Tree {
            files: files.iter().enumerate().map(|(id, (path, _))| ((*path).to_owned(), format!("id{id}"))).collect(),
            changed: None,
            read: Box::new(|path| files.iter().find(|(known, _)| *known == path).map(|(_, text)| (*text).to_owned())),
            changed_since: Box::new(|_| None),
            last_commit: Box::new(|_| None),
        },
    }
}

pub(super) fn with(mut request: Request<'_>, variables: &[(&str, &str)]) -> Result<Pipeline, ReadError> {
    request.variables.extend(variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    create(&request)
}

pub(super) fn pipeline(text: &str) -> Pipeline {
    with(request(&[(".gitlab-ci.yml", text)]), &[]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub(super) fn job(text: &str) -> Job {
    pipeline(text).jobs.remove(0)
}

pub(super) fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.jobs.iter().map(|job| job.name.as_str()).collect()
}

pub(super) fn named<'a>(pipeline: &'a Pipeline, name: &str) -> &'a Job {
    pipeline.jobs.iter().find(|job| job.name == name).unwrap_or_else(|| panic!("no job `{name}`"))
}

pub(super) fn value<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    job.variables.iter().find(|variable| variable.key == name).map(|variable| variable.value.as_str())
}

pub(super) fn refusal(text: &str) -> String {
    match with(request(&[(".gitlab-ci.yml", text)]), &[]) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it is read:\n{text}"),
    }
}
