//! Owns one path or pattern of `paths:` or `exclude:`, relative to the project directory.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use thiserror::Error;

/// Why a pattern matches nothing.
#[derive(Debug, Error)]
pub(super) enum PatternError {
    #[error("No matching files. Path is empty.")]
    Empty,
    #[error("processPath: artifact path is not a subpath of project directory: {0}")]
    Outside(String),
    #[error("{0}: {1}")]
    Malformed(String, globset::Error),
}

/// A place to look at, and what to look for there.
pub(super) struct Pattern {
    /// The part without wildcards, relative to the project directory; empty for that itself.
    pub base: PathBuf,
    /// What matches paths relative to the project directory; `None` when the base alone is meant.
    globs: Option<GlobSet>,
    /// How many directories below the base a match can lie; `None` with `**`.
    pub depth: Option<usize>,
}

impl Pattern {
    /// Reads `text`, whose variables are expanded.
    pub fn read(text: &str, project_dir: &Path) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let outside = || PatternError::Outside(text.to_owned());
        let relative = if text.starts_with('/') {
            let project_dir = project_dir.to_str().ok_or_else(outside)?;
            let (path, project) = (clean(text), clean(project_dir));
            let rest = path.strip_prefix(project.as_str()).ok_or_else(outside)?;
            let is_below = rest.is_empty() || rest.starts_with('/') || project == "/";
            if !is_below {
                return Err(outside());
            }
            clean(rest.trim_start_matches('/'))
        } else {
            clean(text)
        };
        if relative == ".." || relative.starts_with("../") {
            return Err(outside());
        }
        let relative = if relative == "." { String::new() } else { relative };
        let Some(wild) = relative.find(['*', '?', '[', '{', '\\']) else {
            return Ok(Pattern { base: PathBuf::from(relative), globs: None, depth: Some(0) });
        };
        let split = relative[..wild].rfind('/').map_or(0, |slash| slash + 1);
        let (base, rest) = relative.split_at(split);
        let depth = (!rest.contains("**")).then(|| rest.matches('/').count() + 1);
        let globs = Some(globs(&relative).map_err(|error| PatternError::Malformed(text.to_owned(), error))?);
        Ok(Pattern { base: PathBuf::from(base.trim_end_matches('/')), globs, depth })
    }

    /// Whether `path`, relative to the project directory, is meant itself.
    pub fn matches(&self, path: &Path) -> bool {
        match &self.globs {
            Some(globs) => globs.is_match(path),
            None => path == self.base,
        }
    }

    pub fn is_literal(&self) -> bool {
        self.globs.is_none()
    }
}

/// The path without wildcards that `text`, whose variables are expanded, means in `project_dir`; `None` for that itself
/// and for what lies outside.
pub fn beneath(text: &str, project_dir: &Path) -> Option<PathBuf> {
    let pattern = Pattern::read(text, project_dir).ok().filter(Pattern::is_literal)?;
    Some(pattern.base).filter(|path| !path.as_os_str().is_empty())
}

/// `a/**` is `a`, too, as in doublestar.
fn globs(pattern: &str) -> Result<GlobSet, globset::Error> {
    let glob = |text: &str| {
        GlobBuilder::new(text).literal_separator(true).backslash_escape(true).empty_alternates(true).build()
    };
    let pattern = without_separators(pattern);
    let mut globs = GlobSetBuilder::new();
    globs.add(glob(&pattern)?);
    let mut shorter = pattern.as_str();
    while let Some(rest) = shorter.strip_suffix("/**") {
        globs.add(glob(rest)?);
        shorter = rest;
    }
    globs.build()
}

/// Lets `[!a]` stand for no slash: globset's would.
fn without_separators(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        out.push(c);
        match c {
            '\\' => out.extend(rest.next()),
            ']' => in_class = false,
            '[' if !in_class => {
                in_class = true;
                if let Some(not) = rest.next_if(|c| matches!(c, '!' | '^')) {
                    out.push(not);
                    // These two are literal only as the first.
                    out.extend(rest.next_if(|c| matches!(c, ']' | '-')));
                    out.push('/');
                }
            }
            _ => {}
        }
    }
    out
}

/// The path without `.`, `..` where it can be resolved, and empty parts; `.` when nothing is left.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pattern, PatternError> {
        Pattern::read(text, Path::new("/builds/g/p"))
    }

    #[test]
    fn patterns_match_as_doublestar_does() {
        for (pattern, yes, no) in [
            ("a", &["a"][..], &["b", "a/b"][..]),
            ("a/", &["a"], &["a/b"]),
            ("./a/../b//c", &["b/c"], &["a"]),
            ("*.o", &["x.o", ".o", ".hidden.o"], &["a/x.o"]),
            ("*", &["a", ".git"], &["a/b"]),
            ("a/*", &["a/b", "a/.b"], &["a", "a/b/c"]),
            ("**/*.o", &["x.o", "a/x.o", "a/b/x.o"], &["x.c"]),
            ("a/**", &["a", "a/b", "a/b/c"], &["b", "ab"]),
            ("a/**/c", &["a/c", "a/b/c", "a/b/b/c"], &["a/bc", "c"]),
            ("a/**/**", &["a", "a/b"], &["b"]),
            ("**", &["a", "a/b"], &[]),
            ("{a,b}/x", &["a/x", "b/x"], &["c/x"]),
            ("{a/b,c}.o", &["a/b.o", "c.o"], &["b.o"]),
            ("a{,b}", &["a", "ab"], &["ac"]),
            ("a?", &["ab"], &["a", "a/", "abc"]),
            ("[ab]x", &["ax", "bx"], &["cx"]),
            ("[!ab]x", &["cx"], &["ax", "/x"]),
            ("[^ab]x", &["cx"], &["ax"]),
            ("a[!b]c", &["adc"], &["a/c", "abc"]),
            ("a[!]]c", &["abc"], &["a]c", "a/c"]),
            ("a[!-b]c", &["a.c"], &["a-c", "abc", "a/c"]),
            ("[[!a]x", &["!x", "[x"], &["bx"]),
            ("[a-c]x", &["bx"], &["dx"]),
            (r"\*x", &["*x"], &["ax"]),
            ("/builds/g/p/a/*.o", &["a/x.o"], &["x.o"]),
            ("/builds/g/p", &[""], &["a"]),
            ("/builds/./g/x/../p/a", &["a"], &["b"]),
            (".", &[""], &["a"]),
            ("..a", &["..a"], &["a"]),
        ] {
            let read = read(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            for path in yes {
                assert!(read.matches(Path::new(path)), "{pattern} {path}");
            }
            for path in no {
                assert!(!read.matches(Path::new(path)), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_path_outside_the_project_is_refused() {
        for text in
            ["..", "../x", "a/../../x", "/", "/etc/passwd", "/builds/g/p2", "/builds/g", "/builds/g/p/../x", "../*"]
        {
            assert!(matches!(read(text), Err(PatternError::Outside(_))), "{text}");
        }
        assert!(matches!(read(""), Err(PatternError::Empty)));
        assert!(matches!(read("a[b"), Err(PatternError::Malformed(..))));
        assert!(matches!(read("a{b"), Err(PatternError::Malformed(..))));
    }

    #[test]
    fn the_walk_begins_where_the_wildcards_do() {
        for (text, base, depth) in [
            ("a/b/*.o", "a/b", Some(1)),
            ("a/b*/c/*", "a", Some(3)),
            ("**/x", "", None),
            ("a/{b,c/d}/e", "a", Some(3)),
            ("a/b", "a/b", Some(0)),
        ] {
            let pattern = read(text).unwrap();
            assert_eq!((pattern.base.to_str().unwrap(), pattern.depth), (base, depth), "{text}");
        }
    }
}
