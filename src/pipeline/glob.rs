//! Matches paths with patterns as Ruby's `File.fnmatch` does for GitLab (`FNM_PATHNAME | FNM_DOTMATCH | FNM_EXTGLOB`).

use globset::{GlobBuilder, GlobMatcher};

use super::error::ReadError;

/// Larger patterns would cost more memory than they are worth.
const MAX_LENGTH: usize = 4096;
const MAX_BRACES: usize = 16;

/// A pattern of `changes`, `exists` or `include:local`.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// A path as it stands.
    Exactly(String),
    Glob(Box<GlobMatcher>),
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, ReadError> {
        let text = text.strip_prefix("./").unwrap_or(text);
        if !text.contains(['*', '?', '[', '{', '\\']) {
            return Ok(Pattern::Exactly(text.to_owned()));
        }
        let depth = text.chars().scan(0_usize, |open, c| {
            *open = if c == '{' { *open + 1 } else { open.saturating_sub(usize::from(c == '}')) };
            Some(*open)
        });
        if text.len() > MAX_LENGTH || depth.max().unwrap_or_default() > MAX_BRACES {
            return Err(ReadError::at(0, "a pattern is longer, or has more braces in each other, than any path needs"));
        }
        // Only `**/` goes deeper; a last `**` is a `*` to Ruby.
        let shorter = text.strip_suffix("**").map(|start| format!("{start}*"));
        let text = shorter.as_deref().unwrap_or(text);
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|error| ReadError::at(0, format!("`{text}` is no pattern: {}", error.kind())))?;
        Ok(Pattern::Glob(Box::new(glob.compile_matcher())))
    }

    pub fn matches(&self, path: &str) -> bool {
        match self {
            Pattern::Exactly(exactly) => exactly == path,
            Pattern::Glob(glob) => glob.is_match(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_gitlabs_documentation() {
        for (pattern, path, matches) in [
            ("Dockerfile", "Dockerfile", true),
            ("Dockerfile", "docker/Dockerfile", false),
            ("docker/scripts/*", "docker/scripts/a.sh", true),
            ("docker/scripts/*", "docker/scripts/b/a.sh", false),
            ("docker/**/*", "docker/a/b/c", true),
            ("docker/**/*.rb", "docker/a.rb", true),
            ("**/*.sh", "a.sh", true),
            ("**/*.sh", "x/.hidden/a.sh", true),
            ("*.{rb,py}", "a.py", true),
            ("src/[ab].c", "src/b.c", true),
            ("./a/*", "a/b", true),
            ("src/**", "src/a.c", true),
            ("src/**", "src/a/b.c", false),
        ] {
            assert_eq!(Pattern::new(pattern).expect("a pattern").matches(path), matches, "{pattern} {path}");
        }
        assert!(Pattern::new(&format!("{}{}", "{a,".repeat(300), "}".repeat(300))).is_err());
        assert!(Pattern::new(&format!("{}*", "a".repeat(100_000))).is_err());
    }
}
