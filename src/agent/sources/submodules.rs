//! Brings the repository's submodules (runner-behaviour.md §4.5).
//!
//! Their credentials are the job's: git hands the configuration in its environment on to its children.

use crate::agent::context::StageError;

use super::repository::Git;
use super::settings::{Settings, Submodules};

/// Initialises and updates the submodules that `settings` want.
pub(super) async fn update(git: &Git<'_>, settings: &Settings) -> Result<(), StageError> {
    let log = &git.context().log;
    let Some(wanted) = &settings.submodules else {
        log.notice("Skipping Git submodules setup");
        return Ok(());
    };
    log.notice(&headline(wanted));
    let calls = Calls { git, wanted, clean_flags: &settings.clean_flags };
    git.run(&["submodule", "init"]).await?;
    git.run(&calls.sync()).await?;
    calls.clean().await?;
    calls.reset().await?;
    if git.tries(&calls.update()).await? {
        log.notice("Updated submodules");
        git.run(&calls.sync()).await?;
    } else {
        log.warning("Updating submodules failed. Retrying...");
        if wanted.update_flags.iter().any(|flag| flag.eq_ignore_ascii_case("--remote")) {
            git.run(&calls.foreach(&["git", "fetch", "origin", "+refs/heads/*:refs/remotes/origin/*"])).await?;
        }
        git.run(&calls.sync()).await?;
        git.run(&calls.update()).await?;
        calls.reset().await?;
    }
    calls.clean().await?;
    // It is so already: what git is told in its environment it tells its children, the scripts' git as well.
    log.notice("Configuring submodules to use parent git credentials...");
    if settings.lfs && git.has_lfs() {
        log.notice("Pulling LFS files...");
        git.run(&calls.foreach(&["git", "lfs", "pull"])).await?;
    }
    Ok(())
}

struct Calls<'a> {
    git: &'a Git<'a>,
    wanted: &'a Submodules,
    clean_flags: &'a [String],
}

impl Calls<'_> {
    async fn clean(&self) -> Result<(), StageError> {
        // Without flags for the repository, submodules are cleaned nevertheless.
        let mut clean = vec!["git", "clean"];
        match self.clean_flags {
            [] => clean.push("-ffdx"),
            flags => clean.extend(flags.iter().map(String::as_str)),
        }
        self.git.run(&self.foreach(&clean)).await
    }

    async fn reset(&self) -> Result<(), StageError> {
        self.git.run(&self.foreach(&["git", "reset", "--hard"])).await
    }

    fn sync(&self) -> Vec<String> {
        self.with_paths(self.deep(&["submodule", "sync"]))
    }

    fn update(&self) -> Vec<String> {
        let mut update = self.deep(&["submodule", "update", "--init"]);
        if self.wanted.depth > 0 {
            update.extend(["--depth".to_owned(), self.wanted.depth.to_string()]);
        }
        update.extend(self.wanted.update_flags.iter().cloned());
        self.with_paths(update)
    }

    /// More than one word: git then runs them as they are, without a shell.
    fn foreach(&self, command: &[&str]) -> Vec<String> {
        let mut foreach = self.deep(&["submodule", "foreach"]);
        foreach.extend(words(command));
        foreach
    }

    fn deep(&self, command: &[&str]) -> Vec<String> {
        let mut command = words(command);
        if self.wanted.recursive {
            command.push("--recursive".into());
        }
        command
    }

    fn with_paths(&self, mut command: Vec<String>) -> Vec<String> {
        if !self.wanted.paths.is_empty() {
            command.push("--".into());
            command.extend(self.wanted.paths.iter().cloned());
        }
        command
    }
}

fn headline(wanted: &Submodules) -> String {
    let recursively = if wanted.recursive { " recursively" } else { "" };
    let depth = if wanted.depth > 0 { format!(" with git depth set to {}", wanted.depth) } else { String::new() };
    format!("Updating/initializing submodules{recursively}{depth}...")
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}
