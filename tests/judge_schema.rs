//! An independent judge: check-jsonschema says by GitLab's own schema which files are valid.
//!
//! `schema.toml` and `expected.toml` hold where a schema must differ from a reader, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mayfly::pipeline::create;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use repository::{Events, Repository, fixtures, pipelines};
use tools::{check_jsonschema, ended};

#[path = "judges/repository.rs"]
mod repository;
#[path = "judges/tools.rs"]
mod tools;

/// What a schema says of a file; it cannot judge what its reader cannot read.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Schema {
    Valid,
    Invalid,
    Unreadable,
}

/// What is expected of one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    schema: Schema,
    line: Option<usize>,
    #[serde(default)]
    says: Vec<String>,
    reason: Option<String>,
}

#[tokio::test]
async fn the_schema_and_ours_agree_on_what_is_valid() {
    let events = Events::read();
    let exceptions = expected(&pipelines().join("schema.toml"));
    let files: Vec<PathBuf> = fixtures().iter().map(|name| pipelines().join(name).join(".gitlab-ci.yml")).collect();
    let verdicts = judge(&files).await;

    let mut wrong = Vec::new();
    for (fixture, verdict) in fixtures().iter().zip(verdicts) {
        let exception = exceptions.get(fixture);
        let expected = exception.map_or(Schema::Valid, |exception| exception.schema);
        if verdict != expected {
            wrong.push(format!("{fixture}: to the schema it is {verdict:?}, not {expected:?}"));
        }
        if exception.is_some_and(|exception| exception.schema == Schema::Valid || exception.reason.is_none()) {
            wrong.push(format!("{fixture}: an exception has a reason"));
        }
        let repository = Repository::of(fixture).await;
        if let Err(error) = create(&repository.request(events.push()))
            && events.refused(fixture, "push").is_none()
        {
            wrong.push(format!("{fixture}: ours refuses it: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_schema_and_ours_agree_on_what_is_not_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/invalid");
    let expected = expected(&folder.join("expected.toml"));
    let entries = fs::read_dir(&folder).expect("files").map(|entry| entry.expect("an entry").path());
    let files: BTreeSet<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    let names: BTreeSet<String> = files.iter().map(|path| name_of(path)).collect();
    assert_eq!(names, expected.keys().cloned().collect());
    let files: Vec<PathBuf> = files.into_iter().collect();
    let verdicts = judge(&files).await;

    let events = Events::read();
    let mut wrong = Vec::new();
    for (file, verdict) in files.iter().zip(verdicts) {
        let name = name_of(file);
        let expected = &expected[&name];
        if verdict != expected.schema {
            wrong.push(format!("{name}: to the schema it is {verdict:?}, not {:?}", expected.schema));
        }
        if expected.schema == Schema::Valid && expected.reason.is_none() {
            wrong.push(format!("{name}: a file that the schema lets pass has a reason"));
        }
        let repository = Repository::of_file(file).await;
        match create(&repository.request(events.push())) {
            Ok(_) => wrong.push(format!("{name}: ours reads it")),
            Err(error) => {
                let said = error.to_string();
                let missing: Vec<&String> = expected.says.iter().filter(|part| !said.contains(*part)).collect();
                if !missing.is_empty() {
                    wrong.push(format!("{name}: `{said}` does not say {missing:?}"));
                }
                if expected.line.is_some_and(|line| line != error.line) {
                    wrong.push(format!("{name}: `{said}` does not name line {}", expected.line.unwrap_or_default()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn expected(path: &Path) -> BTreeMap<String, Expected> {
    toml::from_str(&fs::read_to_string(path).expect("a file")).expect("TOML")
}

fn name_of(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// What the schema says of each of `files`.
async fn judge(files: &[PathBuf]) -> Vec<Schema> {
    let options = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", "--output-format", "json"];
    let said =
        ended(Command::new(check_jsonschema().await.join("bin/check-jsonschema")).args(options).args(files)).await;
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let named = |list: &str| -> BTreeSet<&str> {
        let entries = said[list].as_array().into_iter().flatten();
        entries.map(|entry| entry["filename"].as_str().expect("a file's name")).collect()
    };
    let (invalid, unreadable) = (named("errors"), named("parse_errors"));
    let verdicts = files.iter().map(|file| match file.to_str().expect("text") {
        file if unreadable.contains(file) => Schema::Unreadable,
        file if invalid.contains(file) => Schema::Invalid,
        _ => Schema::Valid,
    });
    verdicts.collect()
}
