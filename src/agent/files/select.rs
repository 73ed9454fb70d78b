//! Selects files by paths, patterns and git, and tells what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use thiserror::Error;

use crate::agent::context::Context;

use super::expand::shell_expand;
use super::helper_line::HelperLine;
use super::pattern::{Pattern, PatternError};
use super::untracked::untracked;

/// What a cache or an artifact asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Paths and patterns, variables not yet expanded.
    pub paths: Vec<String>,
    /// Takes out again what these match.
    pub exclude: Vec<String>,
    /// Also what git does not know.
    pub untracked: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Selection {
    /// The project directory; nothing above it can be reached through it.
    pub root: Dir,
    /// Files, links and directories, relative to `root`, sorted: a directory comes before what is in it.
    pub paths: Vec<PathBuf>,
    /// What to say about it, in order.
    pub lines: Vec<HelperLine>,
}

/// Why nothing could be looked for.
#[derive(Debug, Error)]
#[error("cannot open the project directory `{}`", project_dir.display())]
pub struct SelectError {
    project_dir: PathBuf,
    source: io::Error,
}

/// Finds what is `wanted` in the job's project directory.
///
/// # Errors
/// When the project directory cannot be opened.
pub async fn select(context: &Context, wanted: Wanted) -> Result<Selection, SelectError> {
    let project_dir = context.place.project_dir.clone();
    let unknown = if wanted.untracked { Some(untracked(&project_dir, context.child_user).await) } else { None };
    let environment = context.environment.clone();
    let (directory, place) = (project_dir.clone(), context.place.clone());
    let found = tokio::task::spawn_blocking(move || {
        let root = place.open_project()?;
        let mut finder = Finder::new(&root, &project_dir, &environment, &wanted.exclude);
        finder.find(&wanted.paths, unknown);
        let (paths, lines) = (finder.found.into_iter().collect(), finder.lines);
        Ok(Selection { root, paths, lines })
    });
    let found = found.await.map_err(io::Error::other).and_then(|found| found);
    found.map_err(|source| SelectError { project_dir: directory, source })
}

struct Finder<'a> {
    root: &'a Dir,
    project_dir: &'a Path,
    environment: &'a BTreeMap<String, String>,
    exclude: Vec<(String, Pattern, u64)>,
    found: BTreeSet<PathBuf>,
    lines: Vec<HelperLine>,
}

impl<'a> Finder<'a> {
    fn new(
        root: &'a Dir,
        project_dir: &'a Path,
        environment: &'a BTreeMap<String, String>,
        exclude: &[String],
    ) -> Self {
        let mut lines = Vec::new();
        let mut patterns = Vec::new();
        for text in exclude {
            let text = shell_expand(text, environment);
            match Pattern::read(&text, project_dir) {
                Ok(pattern) => patterns.push((text, pattern, 0)),
                Err(PatternError::Empty) => {}
                Err(error) => lines.push(HelperLine::Warning(error.to_string())),
            }
        }
        Finder { root, project_dir, environment, exclude: patterns, found: BTreeSet::new(), lines }
    }

    fn find(&mut self, paths: &[String], unknown: Option<Result<Vec<PathBuf>, String>>) {
        for text in paths {
            self.find_pattern(&shell_expand(text, self.environment));
        }
        match unknown {
            None => {}
            Some(Err(why)) => self.warn(format!("untracked: {why}")),
            Some(Ok(names)) => {
                let count = names.into_iter().filter(|name| self.exists(name) && self.take(name)).count();
                if count == 0 {
                    self.warn("untracked: no files".to_owned());
                } else {
                    self.lines.push(HelperLine::Info(format!("untracked: found {count} files")));
                }
            }
        }
        for (text, _, count) in self.exclude.iter().filter(|(_, _, count)| *count > 0) {
            self.lines.push(HelperLine::Info(format!("{text}: excluded {count} files")));
        }
        if self.found.iter().any(|path| path.starts_with(".git") && path.components().count() > 1) {
            self.warn("Part of .git directory is on the list of files to archive".to_owned());
            self.warn("This may introduce unexpected problems".to_owned());
        }
    }

    fn find_pattern(&mut self, text: &str) {
        let pattern = match Pattern::read(text, self.project_dir) {
            Ok(pattern) => pattern,
            Err(error) => return self.warn(error.to_string()),
        };
        let count = self.walk(&pattern);
        if count == 0 {
            let wd = self.project_dir.display();
            self.warn(format!(
                "{text}: no matching files. Ensure that the artifact path is relative to the working directory ({wd})"
            ));
        } else {
            self.lines.push(HelperLine::Info(format!("{text}: found {count} matching artifact files and directories")));
        }
    }

    /// Walks from the pattern's base; a directory that matches is taken with all that is in it.
    fn walk(&mut self, pattern: &Pattern) -> u64 {
        let mut count = 0;
        let mut open: Vec<(PathBuf, usize, bool)> = Vec::new();
        if pattern.is_literal() && !pattern.base.as_os_str().is_empty() {
            match self.root.symlink_metadata(&pattern.base) {
                Ok(metadata) => {
                    count += u64::from(self.take(&pattern.base));
                    if metadata.is_dir() {
                        open.push((pattern.base.clone(), 0, true));
                    }
                }
                Err(_) => return 0,
            }
        } else {
            // `a/**` is `a`, too.
            let base_matches = pattern.matches(&pattern.base);
            if base_matches && !pattern.base.as_os_str().is_empty() && self.exists(&pattern.base) {
                count += u64::from(self.take(&pattern.base));
            }
            open.push((pattern.base.clone(), 0, base_matches));
        }
        while let Some((directory, depth, taken)) = open.pop() {
            let opened =
                if directory.as_os_str().is_empty() { self.root.entries() } else { self.root.read_dir(&directory) };
            let entries = match opened {
                Ok(entries) => entries,
                // A pattern's base that is not there is told as "no matching files".
                Err(_) if depth == 0 && !taken => continue,
                Err(error) => {
                    self.warn(format!("{}: {error}", directory.display()));
                    continue;
                }
            };
            for entry in entries {
                let Ok(entry) = entry else { break };
                let path = directory.join(entry.file_name());
                let taken = taken || pattern.matches(&path);
                if taken {
                    count += u64::from(self.take(&path));
                }
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let deep_enough = pattern.depth.is_some_and(|most| depth + 1 >= most);
                if is_directory && (taken || !deep_enough) {
                    open.push((path, depth + 1, taken));
                }
            }
        }
        count
    }

    /// Takes `path` unless it is excluded.
    fn take(&mut self, path: &Path) -> bool {
        if let Some((_, _, count)) = self.exclude.iter_mut().find(|(_, pattern, _)| pattern.matches(path)) {
            *count += 1;
            return false;
        }
        self.found.insert(path.to_owned());
        true
    }

    fn exists(&self, path: &Path) -> bool {
        self.root.symlink_metadata(path).is_ok()
    }

    fn warn(&mut self, text: String) {
        self.lines.push(HelperLine::Warning(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn project(files: &[&str]) -> TempDir {
        let project = tempfile::tempdir().unwrap();
        for file in files {
            let path = project.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        project
    }

    fn find(project: &Path, paths: &[&str], exclude: &[&str]) -> (Vec<String>, Vec<HelperLine>) {
        let root = Dir::open_ambient_dir(project, cap_std::ambient_authority()).unwrap();
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let environment = [("DIR".to_owned(), "build".to_owned())].into();
        let mut finder = Finder::new(&root, project, &environment, &strings(exclude));
        finder.find(&strings(paths), None);
        (finder.found.iter().map(|path| path.to_str().unwrap().to_owned()).collect(), finder.lines)
    }

    fn info(text: &str) -> HelperLine {
        HelperLine::Info(text.into())
    }

    #[test]
    fn a_directory_is_taken_with_all_that_is_in_it() {
        let project = project(&["build/a", "build/.hidden", "build/deep/b", "other"]);
        let all = ["build", "build/.hidden", "build/a", "build/deep", "build/deep/b"];
        for path in ["build", "build/", "./build", "$DIR", "${NO:-build}", "b*", "{build,none}", "build/**"] {
            let (found, lines) = find(project.path(), &[path], &[]);
            assert_eq!(found, all, "{path}");
            assert!(matches!(&lines[..], [HelperLine::Info(line)] if line.contains(": found 5 matching")), "{lines:?}");
        }
        let absolute = project.path().join("build");
        assert_eq!(find(project.path(), &[absolute.to_str().unwrap()], &[]).0, all);
    }

    #[test]
    fn wildcards_find_what_doublestar_finds() {
        let project = project(&["a.o", "src/b.o", "src/deep/c.o", "src/d.c", "srcs/e.o"]);
        for (path, expected) in [
            ("*.o", &["a.o"][..]),
            ("**/*.o", &["a.o", "src/b.o", "src/deep/c.o", "srcs/e.o"]),
            ("src/*.o", &["src/b.o"]),
            ("src/**/*.o", &["src/b.o", "src/deep/c.o"]),
            ("*/*.o", &["src/b.o", "srcs/e.o"]),
            ("src*/[be].o", &["src/b.o", "srcs/e.o"]),
            ("**/deep", &["src/deep", "src/deep/c.o"]),
            ("{src/d.c,a.o}", &["a.o", "src/d.c"]),
        ] {
            assert_eq!(find(project.path(), &[path], &[]).0, expected, "{path}");
        }
        assert_eq!(find(project.path(), &["."], &[]).0.len(), 8);
    }

    #[test]
    fn the_lines_are_those_of_gitlab_runner() {
        let project = project(&["a", "b/c", "b/d.log", "b/e.log"]);
        let (found, lines) =
            find(project.path(), &["a", "none", "", "../x", "b"], &["b/*.log", "unused", "${NO}", "../y"]);
        assert_eq!(found, ["a", "b", "b/c"]);
        let wd = project.path().display();
        let warning = |text: String| HelperLine::Warning(text);
        assert_eq!(
            lines,
            [
                warning("processPath: artifact path is not a subpath of project directory: ../y".into()),
                info("a: found 1 matching artifact files and directories"),
                warning(format!(
                    "none: no matching files. Ensure that the artifact path is relative to the working directory ({wd})"
                )),
                warning("No matching files. Path is empty.".into()),
                warning("processPath: artifact path is not a subpath of project directory: ../x".into()),
                info("b: found 2 matching artifact files and directories"),
                info("b/*.log: excluded 2 files"),
            ]
        );
    }

    #[test]
    fn excluding_a_directory_needs_its_content_too() {
        let project = project(&["a/b/c", "a/d"]);
        assert_eq!(find(project.path(), &["a"], &["a/b"]).0, ["a", "a/b/c", "a/d"]);
        assert_eq!(find(project.path(), &["a"], &["a/b/**"]).0, ["a", "a/d"]);
        assert_eq!(find(project.path(), &["a"], &["**/c"]).0, ["a", "a/b", "a/d"]);
    }

    #[test]
    fn planted_symlinks_are_found_and_not_followed() {
        let project = project(&["real/file"]);
        let outside = self::project(&["secret"]);
        symlink(outside.path(), project.path().join("out")).unwrap();
        symlink("/proc/self/root", project.path().join("proc")).unwrap();
        symlink("real", project.path().join("in")).unwrap();
        symlink("loop", project.path().join("loop")).unwrap();

        assert_eq!(find(project.path(), &["**"], &[]).0, ["in", "loop", "out", "proc", "real", "real/file"]);
        assert_eq!(find(project.path(), &["out", "in/file"], &[]).0, ["in/file", "out"]);
        for path in ["out/secret", "out/*", "out/**", "proc/etc/passwd", "proc/etc/*", "loop/x", "loop/*"] {
            let found = find(project.path(), &[path], &[]).0;
            assert!(found.iter().all(|found| !found.contains('/')), "{path}: {found:?}");
        }
    }

    #[test]
    fn a_repository_in_the_archive_is_warned_of() {
        let project = project(&[".git/config", "a"]);
        let (_, lines) = find(project.path(), &["**"], &[]);
        assert!(lines.iter().any(|line| matches!(line, HelperLine::Warning(text) if text.contains(".git"))));
        assert_eq!(find(project.path(), &["a"], &[]).1.len(), 1);
    }

    #[tokio::test]
    async fn untracked_files_are_those_that_git_does_not_know_the_ignored_ones_included() {
        let project = project(&["known", "new file", "dir/ignored.log", "é"]);
        fs::write(project.path().join(".gitignore"), "*.log\n").unwrap();
        let hostile = "#!/bin/sh\ntouch ran\n";
        fs::write(project.path().join("monitor"), hostile).unwrap();
        for arguments in [
            &["init", "-q"][..],
            &["add", "known", ".gitignore", "monitor"],
            &["config", "core.fsmonitor", "./monitor"],
        ] {
            let status = std::process::Command::new("git").args(arguments).current_dir(project.path()).status();
            assert!(status.unwrap().success(), "{arguments:?}");
        }
        std::process::Command::new("chmod").arg("+x").arg(project.path().join("monitor")).status().unwrap();

        let mut names = untracked(project.path(), None).await.unwrap();
        names.sort();

        assert_eq!(names, ["dir/ignored.log", "new file", "é"].map(PathBuf::from));
        let error = untracked(Path::new("/proc"), None).await.unwrap_err();
        assert!(error.contains("git"), "{error}");
    }
}
