//! Composes YAML events into nodes that know their line, within bounds that hostile text cannot leave.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::error::ReadError;
use super::node::{Kind, Node};

/// GitLab reads 2 MB at most (`max_yaml_size_bytes`); nobody writes half of it.
const MAX_BYTES: usize = 1024 * 1024;
pub(super) const MAX_DEPTH: usize = 64;
/// What all aliases together may copy: a handful of nested anchors would otherwise fill the memory.
const MAX_ALIASED: usize = 20_000;

/// The documents of `text`, which is the included file `file` or the configuration itself.
pub(super) fn compose(text: &str, file: Option<&str>) -> Result<Vec<Node>, ReadError> {
    composed(text, file).map_err(|error| error.in_file(file))
}

fn composed(text: &str, file: Option<&str>) -> Result<Vec<Node>, ReadError> {
    if text.len() > MAX_BYTES {
        return Err(ReadError::at(0, format!("the file is larger than {MAX_BYTES} bytes")));
    }
    let mut composer = Composer { file: file.map(Arc::from), ..Composer::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        composer.take(event, span.start.line())?;
    }
    Ok(composer.documents)
}

fn not_yaml(error: &ScanError) -> ReadError {
    ReadError::at(error.marker().line(), format!("not YAML: {}", error.info()))
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    documents: Vec<Node>,
    file: Option<Arc<str>>,
}

struct Open {
    anchor: usize,
    line: usize,
    tag: Option<String>,
    mapping: bool,
    children: Vec<Node>,
}

impl Composer {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), ReadError> {
        match event {
            Event::SequenceStart(anchor, tag) => self.start(anchor, line, tag.map(|t| tag_name(&t)), false),
            Event::MappingStart(anchor, tag) => self.start(anchor, line, tag.map(|t| tag_name(&t)), true),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => {
                    let anchor = open.anchor;
                    let node = close(open, self.file.as_ref())?;
                    self.put(node, anchor)
                }
                None => Err(ReadError::at(line, "not YAML: an end without a start")),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| tag_name(&tag)).filter(|tag| tag != "!!str");
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let kind = Kind::Scalar { text: text.into_owned(), plain };
                self.put(Node { file: self.file.clone(), line, tag, kind }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(mut node) = self.anchors.get(&anchor).cloned() else {
                    return Err(ReadError::at(line, "an alias names an anchor that is not complete"));
                };
                self.aliased += node.size();
                if self.aliased > MAX_ALIASED || self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(ReadError::at(line, "the aliases expand to more than a pipeline can be"));
                }
                node.line = line;
                self.put(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, anchor: usize, line: usize, tag: Option<String>, mapping: bool) -> Result<(), ReadError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(ReadError::at(line, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open { anchor, line, tag, mapping, children: Vec::new() });
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), ReadError> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        if let Some(open) = self.open.last_mut() {
            open.children.push(node);
        } else if self.documents.len() == 2 {
            return Err(ReadError::at(node.line, "a third document: there may be a `spec:` header and the pipeline"));
        } else {
            self.documents.push(node);
        }
        Ok(())
    }
}

fn tag_name(tag: &saphyr_parser::Tag) -> String {
    match tag.handle.as_str() {
        "tag:yaml.org,2002:" => format!("!!{}", tag.suffix),
        handle => format!("{handle}{}", tag.suffix),
    }
}

fn close(open: Open, file: Option<&Arc<str>>) -> Result<Node, ReadError> {
    let Open { line, tag, mapping, children, .. } = open;
    let node = |kind| Node { file: file.cloned(), line, tag, kind };
    if !mapping {
        return Ok(node(Kind::List(children)));
    }
    let mut entries: Vec<(String, Node)> = Vec::new();
    let (mut own, mut places) = (HashSet::new(), HashMap::new());
    let mut children = children.into_iter();
    while let (Some(key), Some(value)) = (children.next(), children.next()) {
        let Kind::Scalar { text, plain } = key.kind else {
            return Err(ReadError::at(key.line, "a key must be a string"));
        };
        let mut found = Vec::new();
        if plain && text == "<<" {
            merge(value, &mut found)?;
        } else if !own.insert(text.clone()) {
            return Err(ReadError::at(key.line, format!("the key `{text}` is there twice")));
        } else {
            found.push((text, Node { line: key.line.max(1), ..value }));
        }
        // As Psych does it: whatever comes later wins, be it a merge or a key.
        for (key, value) in found {
            match places.get(&key) {
                Some(place) => entries[*place] = (key, value),
                None => {
                    places.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
        }
    }
    Ok(node(Kind::Map(entries)))
}

fn merge(value: Node, into: &mut Vec<(String, Node)>) -> Result<(), ReadError> {
    let line = value.line;
    match value.kind {
        Kind::Map(entries) => into.extend(entries),
        Kind::List(items) => {
            // Of several the first wins.
            for item in items.into_iter().rev() {
                merge(item, into)?;
            }
        }
        Kind::Scalar { .. } => return Err(ReadError::at(line, "`<<` needs a mapping")),
    }
    Ok(())
}
