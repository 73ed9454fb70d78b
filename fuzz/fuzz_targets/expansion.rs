//! Expands anything, in the runner's way and in the shell's, and makes cache keys and paths of it.
//!
//! Lines of `KEY=VALUE`, an empty line, then the text.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use mayfly::agent::files::{beneath, shell_expand};
use mayfly::cache::key::sanitized;
use mayfly::gitlab::{Variable, Variables};

fuzz_target!(|data: &str| {
    let (assignments, text) = data.split_once("\n\n").unwrap_or(("", data));
    let pairs: Vec<(&str, &str)> = assignments.lines().filter_map(|line| line.split_once('=')).collect();
    let variable = |(n, (key, value)): (usize, &(&str, &str))| Variable {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
        file: n % 5 == 4,
        raw: n % 3 == 2,
        ..Variable::default()
    };
    let variables: Variables = pairs.iter().enumerate().map(variable).collect();
    let longest = pairs.iter().map(|(_, value)| value.len()).max().unwrap_or_default();

    let expanded = variables.expand(text);
    // Every reference takes two bytes at least, and none is looked into again; a file's stands for a directory, `/` and
    // its own name.
    assert!(expanded.len() <= 2 * text.len() + text.len().div_ceil(2) * (longest + 1), "{text:?}");
    if !text.contains('$') {
        assert_eq!(expanded, text);
    }
    assert_eq!(variables.expanded().iter().count(), pairs.len());

    let environment: BTreeMap<String, String> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let path = shell_expand(text, &environment);
    if !text.contains(['$', '\\']) {
        assert_eq!(path, text);
    }
    if let Some(path) = beneath(&path, Path::new("/builds/group/app")) {
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    }
    for raw in [text, &expanded] {
        if let Ok(key) = sanitized(raw) {
            assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")), "{key:?}");
            assert_eq!(sanitized(&key).as_deref(), Ok(key.as_str()), "{raw:?}");
        }
    }
});
