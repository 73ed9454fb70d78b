//! How long the reader takes for a large `.gitlab-ci.yml`: 5,000 lines, with extends, references, rules and needs.
//!
//! `cargo bench --bench reader`. The parts are measured beside the whole, in the same run: YAML alone (the parser that
//! the reader stands on), the merged configuration, the pipeline with its jobs.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mayfly::pipeline::{Request, Tree, create, expanded};
use saphyr_parser::Parser;

/// A file of at least `lines` lines, such as a monorepo has: a build and a test for every component.
fn file(lines: usize) -> String {
    let mut text = "\
stages: [build, test, deploy]
variables: {GLOBAL: value, OTHER: value}
default: {image: rust:1.95, retry: {max: 1, when: [runner_system_failure]}}
.base:
  before_script: [rustc --version]
  cache: {key: {files: [Cargo.lock]}, paths: [target/]}
.rules:
  rules:
    - if: $CI_PIPELINE_SOURCE == \"merge_request_event\"
      changes: [src/**/*]
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH && $SKIP !~ /^yes$/
"
    .to_owned();
    let mut component = 0;
    while text.lines().count() < lines {
        let _ = write!(
            text,
            "\
build-{component}:
  extends: [.base, .rules]
  stage: build
  variables:
    COMPONENT: c{component}
  script:
    - !reference [.base, before_script]
    - cargo build -p c{component}
  artifacts:
    paths: [target/c{component}]
    expire_in: 1 week
test-{component}:
  extends: .base
  stage: test
  needs:
    - job: build-{component}
      artifacts: true
  rules:
    - !reference [.rules, rules]
  script:
    - cargo test -p c{component}
  tags: [mayfly, cpu-2]
"
        );
        component += 1;
    }
    text
}

fn request(text: &str) -> Request<'_> {
    let pairs = [("CI_PIPELINE_SOURCE", "push"), ("CI_COMMIT_BRANCH", "main"), ("CI_DEFAULT_BRANCH", "main")];
    Request {
        path: ".gitlab-ci.yml",
        variables: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        settings: Vec::new(),
        inputs: Vec::new(),
        tree: Tree::of_text(text),
    }
}

fn reader(criterion: &mut Criterion) {
    let text = file(5_000);
    let jobs = create(&request(&text)).expect("it reads").jobs.len();
    assert!(jobs > 400, "{jobs} jobs");
    let mut group = criterion.benchmark_group(format!("5000 lines, {jobs} jobs"));
    group.bench_function("YAML alone", |bencher| {
        bencher.iter(|| Parser::new_from_str(black_box(&text)).filter(Result::is_ok).count());
    });
    group.bench_function("the merged configuration", |bencher| {
        bencher.iter(|| expanded(&request(black_box(&text))).expect("it reads"));
    });
    group.bench_function("the pipeline", |bencher| {
        bencher.iter(|| create(&request(black_box(&text))).expect("it reads"));
    });
    group.finish();
}

criterion_group!(benches, reader);
criterion_main!(benches);
