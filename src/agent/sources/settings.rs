//! Reads from a job's variables how its sources are wanted (runner-behaviour.md §3.8, §4.2).

use std::collections::BTreeMap;

use thiserror::Error;

use crate::agent::context::Context;

/// What happens to the project's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// From nothing.
    Clone,
    /// On top of what is there.
    Fetch,
    /// No git; what is there stays.
    None,
    /// No git, and nothing is there.
    Empty,
}

/// How the sources are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub strategy: Strategy,
    /// 0 is everything.
    pub depth: u64,
    pub checkout: bool,
    pub fetch_flags: Vec<String>,
    /// None at all: nothing is cleaned.
    pub clean_flags: Vec<String>,
    pub lfs: bool,
    /// None when the job wants none.
    pub submodules: Option<Submodules>,
}

/// How submodules are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Submodules {
    pub recursive: bool,
    /// 0 is everything.
    pub depth: u64,
    /// Pathspecs.
    pub paths: Vec<String>,
    pub update_flags: Vec<String>,
}

/// What a job asks for and nobody can do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum SettingsError {
    /// Not one of the words.
    #[error("`GIT_SUBMODULE_STRATEGY` is `{0}`: it has to be `none`, `normal` or `recursive`")]
    SubmoduleStrategy(String),
    /// `:(exclude) path`.
    #[error(
        "invalid submodule pathspec `{0}` in `GIT_SUBMODULE_PATHS`: write the path right behind it, without a blank"
    )]
    SubmodulePath(String),
}

impl Settings {
    /// Reads them, with a warning for each that is replaced by its default.
    pub(super) fn read(context: &Context) -> Result<(Settings, Vec<String>), SettingsError> {
        let mut values = Values { environment: &context.environment, warnings: Vec::new() };
        let default = if context.job.allow_git_fetch { Strategy::Fetch } else { Strategy::Clone };
        let strategy = values.strategy(default);
        let uses_git = matches!(strategy, Strategy::Clone | Strategy::Fetch);
        let depth = context.job.git.depth;
        let settings = Settings {
            strategy,
            depth,
            checkout: uses_git && values.flag("GIT_CHECKOUT", true),
            fetch_flags: values.flags("GIT_FETCH_EXTRA_FLAGS", &["--prune", "--quiet"]),
            clean_flags: values.flags("GIT_CLEAN_FLAGS", &["-ffdx"]),
            lfs: !values.flag("GIT_LFS_SKIP_SMUDGE", false),
            submodules: if uses_git { values.submodules(depth)? } else { None },
        };
        Ok((settings, values.warnings))
    }
}

struct Values<'a> {
    environment: &'a BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Values<'_> {
    fn text(&self, name: &str) -> &str {
        self.environment.get(name).map(String::as_str).unwrap_or_default()
    }

    fn words(&self, name: &str) -> Vec<String> {
        self.text(name).split_whitespace().map(str::to_owned).collect()
    }

    fn strategy(&mut self, default: Strategy) -> Strategy {
        match self.text("GIT_STRATEGY") {
            "" => default,
            "clone" => Strategy::Clone,
            "fetch" => Strategy::Fetch,
            "none" => Strategy::None,
            "empty" => Strategy::Empty,
            other => {
                let warning = format!("`GIT_STRATEGY` is `{other}`, which is no strategy: the default is taken");
                self.warnings.push(warning);
                default
            }
        }
    }

    /// `none` is no flag at all.
    fn flags(&self, name: &str, default: &[&str]) -> Vec<String> {
        match self.text(name) {
            "" => default.iter().map(|flag| (*flag).to_owned()).collect(),
            "none" => Vec::new(),
            _ => self.words(name),
        }
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.text(name) {
            "" => default,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            other => {
                let warning = format!("`{name}` is `{other}`, neither true nor false: `{default}` is taken");
                self.warnings.push(warning);
                default
            }
        }
    }

    fn submodules(&mut self, git_depth: u64) -> Result<Option<Submodules>, SettingsError> {
        let recursive = match self.text("GIT_SUBMODULE_STRATEGY") {
            "" | "none" => return Ok(None),
            "normal" => false,
            "recursive" => true,
            other => return Err(SettingsError::SubmoduleStrategy(other.to_owned())),
        };
        let paths = self.words("GIT_SUBMODULE_PATHS");
        let ends_early = |path: &&String| path.starts_with(":(") && path.ends_with(')') || path.as_str() == ":!";
        if let Some(path) = paths.iter().find(ends_early) {
            return Err(SettingsError::SubmodulePath(path.clone()));
        }
        let depth = self.text("GIT_SUBMODULE_DEPTH").parse().unwrap_or(git_depth);
        let update_flags = self.words("GIT_SUBMODULE_UPDATE_FLAGS");
        Ok(Some(Submodules { recursive, depth, paths, update_flags }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};
    use serde_json::json;

    fn read(variables: &[(&str, &str)]) -> Result<(Settings, Vec<String>), SettingsError> {
        let job = Job::new(json!({"allow_git_fetch": true, "git_info": {"depth": 20}}));
        Settings::read(&context(variables.iter().fold(job, |job, (key, value)| job.variable(key, value))))
    }

    #[test]
    fn the_default_is_gitlab_runners() {
        let (settings, warnings) = read(&[]).unwrap();
        assert!(warnings.is_empty());
        let expected = Settings {
            strategy: Strategy::Fetch,
            depth: 20,
            checkout: true,
            fetch_flags: vec!["--prune".into(), "--quiet".into()],
            clean_flags: vec!["-ffdx".into()],
            lfs: true,
            submodules: None,
        };
        assert_eq!(settings, expected);
        let (settings, _) = Settings::read(&context(Job::new(json!({})))).unwrap();
        assert_eq!(settings.strategy, Strategy::Clone);
    }

    #[test]
    fn strategies_are_words_and_others_are_warned_of() {
        for (word, strategy, warns) in [
            ("clone", Strategy::Clone, false),
            ("fetch", Strategy::Fetch, false),
            ("none", Strategy::None, false),
            ("empty", Strategy::Empty, false),
            ("Clone", Strategy::Fetch, true),
        ] {
            let (settings, warnings) = read(&[("GIT_STRATEGY", word)]).unwrap();
            assert_eq!((settings.strategy, !warnings.is_empty()), (strategy, warns), "{word}");
        }
    }

    #[test]
    fn flags_and_numbers_are_read_or_replaced() {
        let (settings, warnings) = read(&[
            ("GIT_CLEAN_FLAGS", "none"),
            ("GIT_FETCH_EXTRA_FLAGS", " --tags  --force "),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_CHECKOUT", "maybe"),
        ])
        .unwrap();
        assert!(settings.clean_flags.is_empty() && !settings.lfs && settings.checkout);
        assert_eq!(settings.fetch_flags, ["--tags", "--force"]);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn submodules_are_wanted_by_a_known_word_alone() {
        let submodules = |more: &[(&str, &str)]| read(more).map(|(settings, _)| settings.submodules);
        assert_eq!(submodules(&[("GIT_SUBMODULE_STRATEGY", "none")]), Ok(None));
        assert_eq!(submodules(&[("GIT_SUBMODULE_STRATEGY", "normal"), ("GIT_STRATEGY", "none")]), Ok(None));
        assert_eq!(
            submodules(&[("GIT_SUBMODULE_STRATEGY", "all")]),
            Err(SettingsError::SubmoduleStrategy("all".into()))
        );
        let recursive = [
            ("GIT_SUBMODULE_STRATEGY", "recursive"),
            ("GIT_SUBMODULE_PATHS", "a :(exclude)b"),
            ("GIT_SUBMODULE_DEPTH", "3"),
        ];
        let expected = Submodules {
            recursive: true,
            depth: 3,
            paths: vec!["a".into(), ":(exclude)b".into()],
            update_flags: vec![],
        };
        assert_eq!(submodules(&recursive), Ok(Some(expected)));
        let bare = [("GIT_SUBMODULE_STRATEGY", "normal"), ("GIT_SUBMODULE_PATHS", ":(exclude) b")];
        assert_eq!(submodules(&bare), Err(SettingsError::SubmodulePath(":(exclude)".into())));
    }
}
