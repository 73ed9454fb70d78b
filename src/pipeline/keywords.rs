//! Owns the three kinds of keywords: those that run here, those that act in GitLab alone, and those that are refused.

/// What may stand at the top of a file besides jobs.
pub(super) const TOP_LEVEL: [&str; 12] = [
    "after_script",
    "before_script",
    "cache",
    "default",
    "image",
    "include",
    "pages",
    "services",
    "spec",
    "stages",
    "variables",
    "workflow",
];

/// What `default` may hold, and a job takes from it.
pub(super) const INHERITABLE: [&str; 13] = [
    "after_script",
    "artifacts",
    "before_script",
    "cache",
    "hooks",
    "id_tokens",
    "identity",
    "image",
    "interruptible",
    "retry",
    "services",
    "tags",
    "timeout",
];

/// The inheritable keywords that may also stand at the top of the file, as they did before `default`.
pub(super) const GLOBAL: [&str; 5] = ["after_script", "before_script", "cache", "image", "services"];

/// Keywords of jobs that act on GitLab's side alone: accepted, and named once with what that means here.
pub(super) const SERVER_SIDE: [(&str, &str); 9] = [
    ("coverage", "GitLab reads the coverage out of the log"),
    ("environment", "GitLab tracks the deployment; the job itself runs, with its `CI_ENVIRONMENT_…` variables"),
    ("id_tokens", "GitLab signs these tokens; outside it their variables are not there"),
    ("interruptible", "GitLab cancels what is outdated"),
    ("manual_confirmation", "GitLab asks before a manual job starts"),
    ("pages", "GitLab publishes the site; the job itself runs"),
    ("release", "GitLab makes the release; the script runs"),
    ("resource_group", "one job of a group runs at a time"),
    ("secrets", "GitLab tells the runner where these secrets lie; outside it their variables are not there"),
];

/// Keywords of jobs that nothing here can do, and why.
pub(super) const REFUSED: [(&str, &str); 4] = [
    ("dast_configuration", "it needs GitLab's scanner profiles"),
    ("identity", "it needs GitLab's cloud identities"),
    ("inputs", "a job's own inputs are filled in GitLab's form"),
    ("run", "CI functions need GitLab's step runner: write the commands as `script`"),
];
