//! Merges maps as GitLab does for `include` and `extends`: maps deeply, everything else as a whole.

use super::node::{Kind, Node};

/// `over` on top of `base`.
pub(super) fn deep_merge(base: Node, over: Node) -> Node {
    let (mut merged, over_entries) = match (base, over) {
        (base @ Node { kind: Kind::Map(_), tag: None, .. }, Node { kind: Kind::Map(entries), tag: None, .. }) => {
            (base, entries)
        }
        (_, over) => return over,
    };
    let Kind::Map(entries) = &mut merged.kind else { return merged };
    let mut places: std::collections::HashMap<String, usize> =
        entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
    for (key, value) in over_entries {
        match places.get(&key) {
            Some(at) => {
                let empty = value.with_text("");
                let known = std::mem::replace(&mut entries[*at].1, empty);
                entries[*at].1 = deep_merge(known, value);
            }
            None => {
                places.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::yaml::compose;
    use super::*;

    #[test]
    fn maps_merge_deeply_and_lists_are_replaced() {
        let read = |text: &str| compose(text, None).expect("YAML").remove(0);

        let merged = deep_merge(read("a: {x: 1, y: [1, 2]}\nb: 1"), read("a: {y: [3], z: 4}\nc: ~"));

        assert_eq!(merged.json(), json!({"a": {"x": 1, "y": [3], "z": 4}, "b": 1, "c": null}));
    }
}
