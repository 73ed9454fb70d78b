//! Owns reading members of a request that has already been checked against its shape.

use serde_json::Value;

/// The string member `name`.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// The integer member `name`.
pub(super) fn number(value: &Value, name: &str) -> Option<i64> {
    value.get(name)?.as_i64()
}

/// The items of the list `name`, none without it.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of the list `name`.
pub(super) fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(value, name).iter().filter_map(Value::as_str)
}

/// The `name` and `value` pairs of the list `name`.
pub(super) fn pairs<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    list(value, name)
        .iter()
        .map(|pair| (text(pair, "name").unwrap_or_default(), text(pair, "value").unwrap_or_default()))
}

/// Whether `text` is 1 to `most` characters of letters, digits and `others`.
pub(super) fn is_name(text: &str, most: usize, others: &str) -> bool {
    (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
