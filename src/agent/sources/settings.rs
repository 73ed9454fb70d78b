//! Reads from a job's variables how its sources are wanted (runner-behaviour.md §3.8, §4.2).
//!
//! What cannot be read is the default; whoever begins the job warns of it.

use thiserror::Error;

use crate::agent::context::Context;
use crate::gitlab::Variables;

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
    /// With `git clone`, where git can.
    pub native_clone: bool,
    pub clone_flags: Vec<String>,
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
    #[error("GIT_SUBMODULE_PATHS: invalid submodule pathspec `{0}`: write the path right behind `:(exclude)`")]
    SubmodulePath(String),
}

impl Settings {
    /// Reads them.
    pub(super) fn read(context: &Context) -> Result<Settings, SettingsError> {
        let values = Values(&context.variables);
        let default = if context.job.allow_git_fetch { Strategy::Fetch } else { Strategy::Clone };
        let strategy = values.strategy().unwrap_or(default);
        let uses_git = matches!(strategy, Strategy::Clone | Strategy::Fetch);
        let depth = context.job.git.depth;
        Ok(Settings {
            strategy,
            depth,
            checkout: uses_git && values.0.flag("GIT_CHECKOUT", true),
            native_clone: strategy == Strategy::Clone && values.0.flag("FF_USE_GIT_NATIVE_CLONE", false),
            clone_flags: values.flags("GIT_CLONE_EXTRA_FLAGS", &[]),
            fetch_flags: values.flags("GIT_FETCH_EXTRA_FLAGS", &["--prune", "--quiet"]),
            clean_flags: values.flags("GIT_CLEAN_FLAGS", &["-ffdx"]),
            lfs: !values.0.flag("GIT_LFS_SKIP_SMUDGE", false),
            submodules: if uses_git { values.submodules(depth)? } else { None },
        })
    }
}

struct Values<'a>(&'a Variables);

impl Values<'_> {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_default()
    }

    fn words(&self, name: &str) -> Vec<String> {
        self.text(name).split_whitespace().map(str::to_owned).collect()
    }

    fn strategy(&self) -> Option<Strategy> {
        match self.text("GIT_STRATEGY") {
            "clone" => Some(Strategy::Clone),
            "fetch" => Some(Strategy::Fetch),
            "none" => Some(Strategy::None),
            "empty" => Some(Strategy::Empty),
            _ => None,
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

    fn submodules(&self, git_depth: u64) -> Result<Option<Submodules>, SettingsError> {
        let recursive = match self.text("GIT_SUBMODULE_STRATEGY") {
            "" | "none" => return Ok(None),
            "normal" => false,
            "recursive" => true,
            other => return Err(SettingsError::SubmoduleStrategy(other.to_owned())),
        };
        let paths = self.words("GIT_SUBMODULE_PATHS");
        if paths.iter().any(|path| path == ":(exclude)") {
            return Err(SettingsError::SubmodulePath(paths.join(" ")));
        }
        // Less than nothing is everything, too.
        let depth = self.text("GIT_SUBMODULE_DEPTH").parse::<i64>();
        let depth = depth.map_or(git_depth, |depth| u64::try_from(depth).unwrap_or(0));
        let update_flags = self.flags("GIT_SUBMODULE_UPDATE_FLAGS", &[]);
        Ok(Some(Submodules { recursive, depth, paths, update_flags }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};
    use serde_json::json;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let job = Job::new(json!({"allow_git_fetch": true, "git_info": {"depth": 20}}));
        Settings::read(&context(variables.iter().fold(job, |job, (key, value)| job.variable(key, value))))
    }

    #[test]
    fn the_default_is_gitlab_runners() {
        let settings = read(&[]).unwrap();
        let expected = Settings {
            strategy: Strategy::Fetch,
            depth: 20,
            checkout: true,
            native_clone: false,
            clone_flags: vec![],
            fetch_flags: vec!["--prune".into(), "--quiet".into()],
            clean_flags: vec!["-ffdx".into()],
            lfs: true,
            submodules: None,
        };
        assert_eq!(settings, expected);
        let settings = Settings::read(&context(Job::new(json!({})))).unwrap();
        assert_eq!(settings.strategy, Strategy::Clone);
    }

    #[test]
    fn strategies_are_words_and_others_are_the_default() {
        for (word, strategy) in [
            ("clone", Strategy::Clone),
            ("fetch", Strategy::Fetch),
            ("none", Strategy::None),
            ("empty", Strategy::Empty),
            ("Clone", Strategy::Fetch),
        ] {
            assert_eq!(read(&[("GIT_STRATEGY", word)]).unwrap().strategy, strategy, "{word}");
        }
    }

    #[test]
    fn flags_and_numbers_are_read_or_replaced() {
        let settings = read(&[
            ("GIT_CLEAN_FLAGS", "none"),
            ("GIT_FETCH_EXTRA_FLAGS", " --tags  --force "),
            ("GIT_CLONE_EXTRA_FLAGS", "--filter=blob:none"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_CHECKOUT", "maybe"),
        ])
        .unwrap();
        assert!(settings.clean_flags.is_empty() && !settings.lfs && settings.checkout);
        assert_eq!(settings.fetch_flags, ["--tags", "--force"]);
        assert_eq!(settings.clone_flags, ["--filter=blob:none"]);
    }

    #[test]
    fn only_a_clone_can_be_a_native_one() {
        for (strategy, native) in [("clone", true), ("fetch", false)] {
            let settings = read(&[("GIT_STRATEGY", strategy), ("FF_USE_GIT_NATIVE_CLONE", "true")]).unwrap();
            assert_eq!(settings.native_clone, native, "{strategy}");
        }
    }

    #[test]
    fn submodules_are_wanted_by_a_known_word_alone() {
        let submodules = |more: &[(&str, &str)]| read(more).map(|settings| settings.submodules);
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
        assert_eq!(submodules(&bare), Err(SettingsError::SubmodulePath(":(exclude) b".into())));
    }
}
