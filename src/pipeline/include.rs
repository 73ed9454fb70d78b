//! Merges what a file includes beneath it: `include:local`, with globs, rules and inputs.

use super::condition::Facts;
use super::error::ReadError;
use super::file::load;
use super::glob::Pattern;
use super::merge::deep_merge;
use super::nearest::did_you_mean;
use super::node::{Kind, Node};
use super::rules::{Rule, Starts};
use super::scope::Scope;

/// GitLab's bound for one pipeline (`ci_max_includes`).
const MAX_INCLUDES: usize = 150;
/// What needs a network or another project, and the way out.
const ELSEWHERE: [&str; 6] = ["remote", "template", "component", "project", "file", "artifact"];

/// Reads what one pipeline includes.
pub(super) struct Includes<'a> {
    pub facts: &'a Facts<'a>,
    pub scope: Scope<'a>,
    pub count: usize,
}

impl Includes<'_> {
    /// `document` on top of all that it includes, which may include more.
    pub fn merged(&mut self, mut document: Node) -> Result<Node, ReadError> {
        let Some(include) = document.take("include").filter(|include| !include.is_null()) else { return Ok(document) };
        let mut beneath: Option<Node> = None;
        let entries = if include.is_list() { include.flat_items("include")? } else { vec![&include] };
        for entry in entries {
            for included in self.entry(entry)? {
                beneath = Some(match beneath {
                    Some(beneath) => deep_merge(beneath, included),
                    None => included,
                });
            }
        }
        Ok(match beneath {
            Some(beneath) => deep_merge(beneath, document),
            None => document,
        })
    }

    fn entry(&mut self, entry: &Node) -> Result<Vec<Node>, ReadError> {
        let mut inputs = Vec::new();
        if let Kind::Map(entries) = &entry.kind {
            for (key, value) in entries {
                match key.as_str() {
                    "local" => {}
                    "inputs" => inputs = value.entries("include:inputs")?.to_vec(),
                    "rules" if !self.wanted(value)? => return Ok(Vec::new()),
                    "rules" => {}
                    _ if ELSEWHERE.contains(&key.as_str()) || ["ref", "integrity"].contains(&key.as_str()) => {}
                    _ => {
                        return Err(value.unknown_key("include", key, ["local", "inputs", "rules"]));
                    }
                }
            }
        }
        let path = self.scope.expand(&local(entry)?);
        let paths = self.paths(entry, path.trim_start_matches('/'))?;
        paths.into_iter().map(|path| self.file(&path, &inputs, entry)).collect()
    }

    fn wanted(&self, rules: &Node) -> Result<bool, ReadError> {
        for rule in Rule::read_all(rules)? {
            if rule.condition.holds(&self.scope, self.facts)? {
                return Ok(rule.when != Some(Starts::Never));
            }
        }
        Ok(false)
    }

    fn paths(&self, entry: &Node, path: &str) -> Result<Vec<String>, ReadError> {
        if !path.ends_with(".yml") && !path.ends_with(".yaml") {
            return Err(entry.error(format!("`include:local` names `{path}`, which should end with .yml or .yaml")));
        }
        let files = || self.facts.tree.files.iter().map(|(path, _)| path.as_str());
        if path.contains('*') {
            let pattern = Pattern::new(path).map_err(|error| entry.error(error.what))?;
            return Ok(files().filter(|file| pattern.matches(file)).map(str::to_owned).collect());
        }
        match files().any(|file| file == path) {
            true => Ok(vec![path.to_owned()]),
            false => Err(entry.error(format!(
                "`include:local` names `{path}`, which is not in the repository{}",
                did_you_mean(path, files())
            ))),
        }
    }

    fn file(&mut self, path: &str, inputs: &[(String, Node)], entry: &Node) -> Result<Node, ReadError> {
        self.count += 1;
        if self.count > MAX_INCLUDES {
            return Err(
                entry.error(format!("more than {MAX_INCLUDES} files are included: do they include each other?"))
            );
        }
        let text = (self.facts.tree.read)(path).ok_or_else(|| entry.error(format!("`{path}` cannot be read")))?;
        let document = load(&text, Some(path), inputs, entry, &self.scope)?;
        self.merged(document)
    }
}

/// The path that an entry names, or why it is refused.
fn local(entry: &Node) -> Result<String, ReadError> {
    let refused = |kind: &str| {
        format!(
            "`include:{kind}` brings a file from elsewhere, which is not fetched here: copy it into the repository and \
             use `include:local`"
        )
    };
    match &entry.kind {
        Kind::Scalar { text, .. } if text.starts_with("http://") || text.starts_with("https://") => {
            Err(entry.error(refused("remote")))
        }
        Kind::Scalar { .. } => entry.text("include"),
        Kind::Map(entries) => match entries.iter().find(|(key, _)| ELSEWHERE.contains(&key.as_str())) {
            Some((key, value)) => Err(value.error(refused(if key == "file" { "project" } else { key }))),
            None => match (entry.get("local"), entries.first()) {
                (Some(local), _) => local.text("include:local"),
                (None, Some((key, value))) => Err(value.unknown_key("include", key, ["local", "inputs", "rules"])),
                (None, None) => Err(entry.error("`include` needs a `local`")),
            },
        },
        Kind::List(_) => Err(entry.error("`include` should be a list of files")),
    }
}
