//! Reads `release`: what GitLab makes one more step of the job of.

use super::error::ReadError;
use super::job::Release;
use super::node::Node;

const KEYS: [&str; 8] =
    ["tag_name", "tag_message", "name", "description", "ref", "milestones", "released_at", "assets"];
const LINK_KEYS: [&str; 4] = ["name", "url", "filepath", "link_type"];

pub(super) fn release(node: &Node) -> Result<Release, ReadError> {
    let mut release = Release::default();
    for (key, value) in node.entries("release")? {
        match key.as_str() {
            "tag_name" => release.tag_name = value.text(key)?,
            "tag_message" => release.tag_message = value.optional_text(key)?,
            "name" => release.name = value.optional_text(key)?,
            "description" => release.description = value.text(key)?,
            "ref" => release.ref_name = value.optional_text(key)?,
            "milestones" => release.milestones = value.one_or_more(key)?,
            "released_at" => release.released_at = value.optional_text(key)?,
            "assets" => release.links = links(value)?,
            _ => return Err(value.unknown_key("release", key, KEYS)),
        }
    }
    if release.tag_name.is_empty() || release.description.is_empty() {
        return Err(node.error("`release` needs a `tag_name` and a `description`"));
    }
    Ok(release)
}

fn links(node: &Node) -> Result<Vec<Vec<(String, String)>>, ReadError> {
    let Some(links) = node.get("links") else { return Ok(Vec::new()) };
    let read = |link: &Node| {
        let entries = link.entries("release:assets:links")?.iter();
        let fields = entries.map(|(key, value)| match LINK_KEYS.contains(&key.as_str()) {
            true => Ok((key.clone(), value.text(key)?)),
            false => Err(value.unknown_key("release:assets:links", key, LINK_KEYS)),
        });
        fields.collect()
    };
    links.flat_items("release:assets:links")?.into_iter().map(read).collect()
}
