//! Brings one file from text to a node: composed, and its inputs filled in.

use super::error::ReadError;
use super::inputs::Inputs;
use super::node::Node;
use super::scope::Scope;
use super::yaml::{MAX_DEPTH, compose};

/// The pipeline document of `text`; `place` is blamed for inputs that are not given.
pub(super) fn load(
    text: &str,
    file: Option<&str>,
    given: &[(String, Node)],
    place: &Node,
    scope: &Scope<'_>,
) -> Result<Node, ReadError> {
    let nowhere = |what: &str| ReadError::at(0, what).in_file(file);
    let mut documents = compose(text, file)?;
    let second = (documents.len() == 2).then(|| documents.remove(1));
    let first = documents.pop().ok_or_else(|| nowhere("the file is empty"))?;
    let document = match second {
        Some(body) => Inputs::read(&first, given, place)?.interpolate(&body, scope)?,
        None if first.get("spec").is_some() => {
            return Err(first.error("a `spec:` header should be followed by `---` and the pipeline"));
        }
        None => match given.first() {
            Some((name, value)) => {
                return Err(value.error(format!("the input `{name}` is given, and the file has no `spec:inputs`")));
            }
            None => first,
        },
    };
    if document.depth() > MAX_DEPTH {
        return Err(document.error("with its inputs the file is nested deeper than a pipeline can be"));
    }
    if document.is_null() {
        return Err(nowhere("the file is empty"));
    }
    document.entries("the file")?;
    Ok(document)
}
