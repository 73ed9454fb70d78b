//! Turns nodes into JSON, as GitLab's server sees them: for the schema, and for whoever compares.

use serde_json::{Map, Number, Value};

use super::node::{Kind, Node, as_boolean};

impl Node {
    /// This value as JSON; a `!reference` is the list of its keys, as GitLab's schema has it.
    pub fn json(&self) -> Value {
        match &self.kind {
            Kind::List(items) => items.iter().map(Node::json).collect(),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
            Kind::Scalar { text, plain } if !plain || self.tag.is_some() => Value::String(text.clone()),
            Kind::Scalar { .. } if self.is_null() => Value::Null,
            Kind::Scalar { text, .. } => plain_value(text),
        }
    }
}

fn plain_value(text: &str) -> Value {
    if let Some(boolean) = as_boolean(text) {
        return Value::Bool(boolean);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Value::String(text.to_owned());
    }
    let number = text.trim_start_matches('+').parse::<i64>().ok().map(Number::from);
    let number = number.or_else(|| {
        let float = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && text.contains('.');
        float.then(|| text.parse::<f64>().ok()).flatten().and_then(Number::from_f64)
    });
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::yaml::compose;

    #[test]
    fn plain_scalars_have_the_types_that_ruby_gives_them() {
        let node = compose("a: 1\nb: '1'\nc: 1.5\nd: yes\ne: ~\nf: 1.2.3\ng: !reference [x, y]\nh: [1h]\n", None);

        let json = node.expect("YAML")[0].json();

        let expected =
            json!({"a": 1, "b": "1", "c": 1.5, "d": true, "e": null, "f": "1.2.3", "g": ["x", "y"], "h": ["1h"]});
        assert_eq!(json, expected);
    }
}
