//! Owns `cache:key` in all its forms; one of files becomes a digest of what they hold.

use sha2::{Digest, Sha256};

use super::error::ReadError;
use super::node::Node;
use super::request::Tree;
use super::scope::Scope;

/// The key of one cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CacheKey {
    /// As written.
    Text(String),
    /// A digest of files, behind a prefix.
    Files { prefix: Option<String>, paths: Vec<String>, by_commit: bool },
}

impl CacheKey {
    pub fn read(node: &Node) -> Result<CacheKey, ReadError> {
        if !node.is_map() {
            return Ok(CacheKey::Text(node.text("cache:key")?));
        }
        let (mut prefix, mut files) = (None, None);
        for (key, value) in node.entries("cache:key")? {
            match key.as_str() {
                "prefix" => prefix = value.optional_text("cache:key:prefix")?,
                "files" => files = Some((value, false)),
                "files_commits" => files = Some((value, true)),
                _ => return Err(value.unknown_key("cache:key", key, ["files", "files_commits", "prefix"])),
            }
        }
        let (files, by_commit) = files.ok_or_else(|| node.error("`cache:key` needs `files`"))?;
        let paths = files.texts("cache:key:files")?;
        match paths.len() {
            1 | 2 => Ok(CacheKey::Files { prefix, paths, by_commit }),
            _ => Err(files.error("`cache:key:files` should have one or two files")),
        }
    }

    /// The key as a runner gets it. `index` is the cache's place in its job: two caches of the same files are two.
    pub fn key(&self, index: usize, scope: &Scope<'_>, tree: &Tree<'_>) -> String {
        let CacheKey::Files { prefix, paths, by_commit } = self else {
            let CacheKey::Text(text) = self else { return String::new() };
            return text.clone();
        };
        let content = |path: &str| tree.files.iter().find(|(known, _)| known == path).map(|(_, id)| id.clone());
        let mut ids: Vec<String> = paths
            .iter()
            .map(|path| scope.expand(path))
            .filter_map(|path| if *by_commit { (tree.last_commit)(&path) } else { content(&path) })
            .collect();
        ids.sort();
        ids.dedup();
        let digest = match ids.is_empty() {
            true => "default".to_owned(),
            false => hex::encode(&Sha256::digest(ids.join("-"))[..20]),
        };
        let prefix = prefix.clone().filter(|prefix| !prefix.is_empty()).unwrap_or_else(|| index.to_string());
        format!("{prefix}-{digest}")
    }
}
