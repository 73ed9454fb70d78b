//! The architecture as data: who may use whom, where SDK types may stand, how large the sandbox may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and what it may use of ours. A module may always use itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("gitlab", &[]),
    ("config", &[]),
    ("telemetry", &[]),
    ("pipeline", &[]),
    ("plan", &["gitlab", "config"]),
    ("ledger", &["gitlab", "plan"]),
    ("cache", &["gitlab"]),
    ("settle", &["gitlab", "config", "ledger", "plan"]),
    ("launch", &["plan", "ledger", "config"]),
    ("functions", &["gitlab", "config", "telemetry", "plan", "ledger", "cache", "settle", "launch"]),
    ("agent", &["gitlab", "cache", "plan", "ledger", "config"]),
    ("sandbox/gitlab", &["pipeline", "sandbox/clock", "sandbox/traffic"]),
    ("sandbox/ecs", &["sandbox/clock", "sandbox/traffic"]),
    ("sandbox/s3", &["sandbox/clock", "sandbox/traffic"]),
    ("sandbox/stack", &["sandbox/ecs"]),
];

/// Parts of modules that others may use only in part: user, used, the paths that are allowed.
const ONLY: &[(&str, &str, &[&str])] = &[
    // Wire types and the proof, never the bucket.
    ("agent", "ledger", &["ledger::wire", "ledger::keys"]),
];

/// Files that must not name an AWS SDK crate are all but these.
const SDK_PLACES: &[&str] = &[
    "src/ledger/",
    "src/launch/",
    "src/functions/broker/",
    "src/functions/readers/",
    "src/bin/",
    "src/sandbox/aws.rs",
    "src/sandbox/sandbox.rs",
    "src/sandbox/stack/",
];

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for file in sources() {
        let Some((module, allowed)) = MAY_USE.iter().find(|(module, _)| is_in(&file, module)) else { continue };
        for used in used_by(&fs::read_to_string(&file).expect("it can be read"), module) {
            let place = sub_module(&used);
            if place != *module && !allowed.contains(&place.as_str()) {
                wrong.push(format!("{} uses `{used}`; `{module}` may use {allowed:?}", file.display()));
            }
            let only = ONLY.iter().find(|(user, used, _)| user == module && *used == place);
            if let Some((_, _, paths)) = only
                && !paths.iter().any(|path| used.starts_with(path))
            {
                wrong.push(format!("{} uses `{used}`; of `{place}` it may use {paths:?}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| module.split('/').next().unwrap_or(module)).collect();
    let free = ["bin", "cli", "lib"];
    for entry in fs::read_dir("src").expect("src is there") {
        let name = entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        assert!(known.contains(name.as_str()) || free.contains(&name.as_str()), "`{name}` has no row in MAY_USE");
    }
}

#[test]
fn sdk_types_stay_at_the_edges() {
    for file in sources() {
        let path = file.to_string_lossy().into_owned();
        if SDK_PLACES.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("it can be read");
        let named = text.lines().find(|line| !line.trim_start().starts_with("//") && line.contains("aws_sdk_"));
        assert_eq!(named, None, "{path} names an AWS SDK");
    }
}

#[test]
fn plan_and_settle_are_pure() {
    for file in sources().into_iter().filter(|file| is_in(file, "plan") || is_in(file, "settle")) {
        let text = fs::read_to_string(&file).expect("it can be read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in
            ["async fn", "tokio::", "std::fs", "std::env", "std::net", "Timestamp::now", "SystemTime", "Instant::now"]
        {
            assert!(!code.contains(word), "{} is not pure: `{word}`", file.display());
        }
    }
}

#[test]
fn the_sandbox_is_a_third_of_the_source_at_most() {
    let lines = |file: &PathBuf| fs::read_to_string(file).expect("it can be read").lines().count();
    let all: usize = sources().iter().map(lines).sum();
    let sandbox: usize = sources().iter().filter(|file| file.starts_with("src/sandbox")).map(lines).sum();
    assert!(sandbox * 3 <= all, "{sandbox} of {all} lines");
}

#[test]
fn the_package_is_what_its_users_build() {
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").expect("it is there").parse().expect("it is TOML");
    let package = &manifest["package"];
    assert_eq!(package["edition"].as_str(), Some("2024"));
    assert_eq!(package["default-run"].as_str(), Some("mayfly"));
    let binaries = manifest["bin"].as_array().expect("binaries").iter().filter_map(|bin| bin["name"].as_str());
    assert_eq!(binaries.collect::<Vec<_>>(), ["mayfly", "agent", "lambda"]);
    for file in ["Makefile", "README.md", "LICENSE-MIT", "LICENSE-APACHE", ".ci/run"] {
        assert!(Path::new(file).is_file(), "{file} is missing");
    }
}

#[test]
fn a_mod_file_is_a_table_of_contents() {
    let exceptions =
        ["src/functions/broker/mod.rs", "src/functions/dispatcher/mod.rs", "src/functions/mod.rs", "src/cli"];
    for file in sources().into_iter().filter(|file| file.ends_with("mod.rs")) {
        let path = file.to_string_lossy().into_owned();
        if exceptions.iter().any(|exception| path.starts_with(exception)) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("it can be read");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        assert!(!code.contains("fn "), "{path} has logic");
    }
}

#[test]
fn files_are_small_and_say_what_they_own() {
    for file in sources() {
        let text = fs::read_to_string(&file).expect("it can be read");
        assert!(text.starts_with("//!"), "{} does not say what it owns", file.display());
        assert!(text.lines().count() <= 450, "{} has {} lines: is there a seam?", file.display(), text.lines().count());
    }
}

/// Which module of the table a file belongs to.
fn is_in(file: &Path, module: &str) -> bool {
    let place = Path::new("src").join(module);
    file.starts_with(&place) || file == place.with_extension("rs")
}

/// The table's name for a used path: `sandbox::clock::Clock` is `sandbox/clock`.
fn sub_module(used: &str) -> String {
    let mut parts = used.split("::");
    let first = parts.next().unwrap_or_default();
    match (first, parts.next()) {
        ("sandbox", Some(second)) => format!("sandbox/{second}"),
        _ => first.to_owned(),
    }
}

/// Every `crate::…` path in the code, groups in braces taken apart; `super::` never leaves a module's own folder here.
fn used_by(text: &str, module: &str) -> Vec<String> {
    let depth = module.matches('/').count() + 1;
    let mut used = Vec::new();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        // `macro_crate::` and the like are other words.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(':');
        match rest[end..].starts_with('{') && depth == 2 && path == "sandbox" {
            true => used.push(format!("{path}::{}", rest[end + 1..].split([',', '}', ':']).next().unwrap_or_default())),
            false => used.push(path.to_owned()),
        }
    }
    used
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
