//! Owns what the reader must be told besides the file: the event's variables and the repository's tree.

/// What a pipeline is made of.
pub struct Request<'a> {
    /// Where the configuration lies in the tree: `.gitlab-ci.yml`.
    pub path: &'a str,
    /// What is predefined for the event, a later one wins: the file's own variables win over these.
    /// `CI_PIPELINE_SOURCE`, `CI_COMMIT_BRANCH`, `CI_COMMIT_TAG` and `CI_COMMIT_REF_NAME` decide `only`.
    pub variables: Vec<(String, String)>,
    /// What wins over the file's own: the project's settings, then what whoever starts the pipeline says.
    pub settings: Vec<(String, String)>,
    /// Values for `spec:inputs` of the configuration.
    pub inputs: Vec<(String, String)>,
    /// The repository at the pipeline's commit.
    pub tree: Tree<'a>,
}

/// A question about a path or a ref, asked only where a file depends on the answer.
pub type Ask<'a, T> = Box<dyn Fn(&str) -> Option<T> + 'a>;

/// A repository at one commit, as far as a pipeline asks about it.
pub struct Tree<'a> {
    /// Every file: its path, and the id of its content.
    pub files: Vec<(String, String)>,
    /// The paths that the push or the merge request changed; `None` where there is nothing to compare with, and
    /// `changes` holds.
    pub changed: Option<Vec<String>>,
    /// The content of a file.
    pub read: Ask<'a, String>,
    /// The paths that differ from another ref's: `changes:compare_to`; `None` if there is no such ref.
    pub changed_since: Ask<'a, Vec<String>>,
    /// The last commit that changed a path: `cache:key:files_commits`.
    pub last_commit: Ask<'a, String>,
}

impl Tree<'_> {
    /// A tree of the one file `.gitlab-ci.yml`, with nothing to compare it with.
    pub fn of_text(text: &str) -> Tree<'static> {
        let text = text.to_owned();
        Tree {
            files: vec![(".gitlab-ci.yml".to_owned(), String::new())],
            changed: None,
            read: Box::new(move |path| (path == ".gitlab-ci.yml").then(|| text.clone())),
            changed_since: Box::new(|_| None),
            last_commit: Box::new(|_| None),
        }
    }
}
