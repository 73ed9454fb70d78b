//! Gets the repository with `git clone`, where the job wants that and git is new enough (`FF_USE_GIT_NATIVE_CLONE`).

use crate::agent::context::StageError;

use super::repository::Git;
use super::settings::Settings;

/// The first git that clones a ref which is neither a branch nor a tag.
const OLDEST: (u32, u32) = (2, 49);

/// Whether the helper's git can; an older one fetches, without a word.
pub(super) async fn can_clone(git: &Git<'_>) -> Result<bool, StageError> {
    let words = git.says(&["version"]).await?;
    Ok(version(&words).is_some_and(|version| version >= OLDEST))
}

/// Clones into the project's directory, which is empty; nothing is checked out yet.
pub(super) async fn clone(git: &Git<'_>, settings: &Settings) -> Result<(), StageError> {
    let ref_name = &git.context().job.git.ref_name;
    git.context().log.notice(&headline(ref_name, settings.depth));
    git.run(&arguments(git.url(), ref_name, settings)).await
}

fn headline(ref_name: &str, depth: u64) -> String {
    match (depth, ref_name) {
        (1.., _) => format!("Cloning repository for {ref_name} with git depth set to {depth}..."),
        (0, "") => "Cloning repository...".into(),
        (0, _) => format!("Cloning repository for {ref_name}..."),
    }
}

fn arguments(url: &str, ref_name: &str, settings: &Settings) -> Vec<String> {
    let mut clone: Vec<String> = ["clone", "--no-checkout", url, ".", "--template="].map(str::to_owned).into();
    if settings.depth > 0 {
        clone.extend(["--depth".to_owned(), settings.depth.to_string()]);
    }
    match ref_name {
        "" => {}
        whole if whole.starts_with("refs/") => clone.extend(["--revision".to_owned(), whole.to_owned()]),
        name => clone.extend(["--branch".to_owned(), name.to_owned()]),
    }
    clone.extend(settings.clone_flags.iter().cloned());
    clone
}

/// `git version 2.49.0 (Apple Git-1)` is 2.49.
fn version(words: &str) -> Option<(u32, u32)> {
    let number = words.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};
    use serde_json::json;

    #[test]
    fn a_clone_names_its_ref_in_the_way_that_git_wants() {
        let settings = |depth: u64| {
            let job = Job::new(json!({"git_info": {"depth": depth}}));
            Settings::read(&context(job.variable("GIT_CLONE_EXTRA_FLAGS", "--filter=blob:none"))).unwrap()
        };
        for (ref_name, depth, expected, said) in [
            ("main", 0, "--branch main", "Cloning repository for main..."),
            ("v1", 20, "--depth 20 --branch v1", "Cloning repository for v1 with git depth set to 20..."),
            (
                "refs/merge-requests/1/head",
                1,
                "--depth 1 --revision refs/merge-requests/1/head",
                "Cloning repository for refs/merge-requests/1/head with git depth set to 1...",
            ),
            ("", 0, "", "Cloning repository..."),
        ] {
            let words = arguments("https://gitlab.test/g/p.git", ref_name, &settings(depth)).join(" ");
            let start = "clone --no-checkout https://gitlab.test/g/p.git . --template=";
            let whole = [start, expected, "--filter=blob:none"].map(str::to_owned);
            let whole: Vec<String> = whole.into_iter().filter(|part| !part.is_empty()).collect();
            assert_eq!(words, whole.join(" "));
            assert_eq!(headline(ref_name, depth), said);
        }
    }

    #[test]
    fn gits_version_is_read_whoever_built_it() {
        for (words, expected) in [
            ("git version 2.49.0\n", Some((2, 49))),
            ("git version 2.39.5 (Apple Git-154)", Some((2, 39))),
            ("git version 2.51.0.windows.1", Some((2, 51))),
            ("git version 3.0-rc1", None),
            ("", None),
        ] {
            assert_eq!(version(words), expected, "{words}");
        }
    }
}
