//! The README's compatibility table: complete, in the three words that it promises, every row with a test that is there.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

/// Every job variable that GitLab Runner itself reads.
const VARIABLES: &str = "
GIT_STRATEGY GIT_DEPTH GIT_CHECKOUT GIT_CLEAN_FLAGS GIT_FETCH_EXTRA_FLAGS GIT_CLONE_EXTRA_FLAGS GIT_CLONE_PATH
GIT_LFS_SKIP_SMUDGE GIT_SUBMODULE_STRATEGY GIT_SUBMODULE_DEPTH GIT_SUBMODULE_PATHS GIT_SUBMODULE_UPDATE_FLAGS
GIT_SUBMODULE_FORCE_HTTPS CI_SERVER_SHELL_SSH_HOST CI_SERVER_SHELL_SSH_PORT
GET_SOURCES_ATTEMPTS ARTIFACT_DOWNLOAD_ATTEMPTS RESTORE_CACHE_ATTEMPTS EXECUTOR_JOB_SECTION_ATTEMPTS
SECRETS_RETRIEVAL_ATTEMPTS RUNNER_SCRIPT_TIMEOUT RUNNER_AFTER_SCRIPT_TIMEOUT AFTER_SCRIPT_IGNORE_ERRORS
CACHE_REQUEST_TIMEOUT
CACHE_FALLBACK_KEY CACHE_COMPRESSION_LEVEL CACHE_COMPRESSION_FORMAT ARTIFACT_COMPRESSION_LEVEL
CACHE_TRANSFER_BUFFER_SIZE CACHE_CHUNK_SIZE CACHE_CONCURRENCY CACHE_MAX_UPLOADED_ARCHIVE_SIZE TRANSFER_METER_FREQUENCY
FASTZIP_ARCHIVER_CONCURRENCY FASTZIP_ARCHIVER_BUFFER_SIZE FASTZIP_EXTRACTOR_CONCURRENCY ARCHIVER_STAGING_DIR
RUNNER_GENERATE_ARTIFACTS_METADATA SLSA_PROVENANCE_SCHEMA_VERSION
CI_DEBUG_TRACE CI_DEBUG_SERVICES DOCKER_AUTH_CONFIG HEALTHCHECK_TCP_PORT
";

/// What is neither a keyword nor a variable, and asked about nevertheless.
const TOPICS: &str = "image:pull_policy image:docker image:kubernetes image:entrypoint privileged PVC GPU /dev/shm";

struct Row {
    item: String,
    verdict: String,
    tests: Vec<String>,
}

#[test]
fn every_row_says_how_it_is_and_names_a_test_that_is_there() {
    let rows = rows();
    assert!(!rows.is_empty(), "the README has no compatibility table");
    let mut wrong = Vec::new();
    for row in rows {
        let fits = row.verdict == "as GitLab Runner"
            || ["differs: ", "refused: "].iter().any(|word| row.verdict.starts_with(word));
        if !fits {
            wrong.push(format!("{}: `{}` is no verdict", row.item, row.verdict));
        }
        if row.tests.is_empty() {
            wrong.push(format!("{}: no test", row.item));
        }
        let missing = row.tests.iter().filter(|test| !is_there(test));
        wrong.extend(missing.map(|test| format!("{}: there is no test `{test}`", row.item)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_keyword_and_no_variable_is_left_out() {
    let rows = rows();
    let named: BTreeSet<&str> = rows.iter().flat_map(|row| row.item.split('`').skip(1).step_by(2)).collect();
    let schema = fs::read_to_string("src/pipeline/schema/gitlab-ci.json").expect("it is there");
    let schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    let keywords = schema["definitions"]["job_template"]["properties"].as_object().expect("keywords");
    let wanted = keywords.keys().map(String::as_str).chain(VARIABLES.split_whitespace()).chain(TOPICS.split(' '));
    let missing: Vec<&str> = wanted.filter(|item| !named.contains(item)).collect();
    assert!(missing.is_empty(), "the compatibility table says nothing of {missing:?}");
}

/// The rows of all tables below the heading, whose columns are what, how, and the test.
fn rows() -> Vec<Row> {
    let readme = fs::read_to_string("README.md").expect("it is there");
    let section = readme.split("\n## Compatibility\n").nth(1).expect("the README has a section `Compatibility`");
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let rows = lines.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "a row has three cells: {line}");
        let tests = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[0] != "What").then(|| Row { item: cells[0].to_owned(), verdict: cells[1].to_owned(), tests })
    });
    rows.collect()
}

/// Whether `module::name` is a test of this folder, or `containers::module::name` one in real containers.
fn is_there(test: &str) -> bool {
    let Some((module, name)) = test.rsplit_once("::") else { return false };
    let file = match module.strip_prefix("containers::") {
        Some(module) => format!("tests/containers/{module}.rs"),
        None => format!("tests/compat/{module}.rs"),
    };
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    let signatures = [format!("async fn {name}("), format!("fn {name}(")];
    let mut is_test = false;
    lines.any(|line| {
        let found = is_test && signatures.iter().any(|signature| line.starts_with(signature));
        let begins = line.starts_with("#[tokio::test") || line == "#[test]";
        is_test = begins || (line.starts_with("#[") && is_test);
        found
    })
}
