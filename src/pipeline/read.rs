//! Reads the file as a whole: stages, defaults, variables, and every job.

use super::error::ReadError;
use super::job::{AllowFailure, Job, Pipeline};
use super::keywords::Keywords;
use super::node::Node;
use super::parts::{self, not_read_yet};
use super::request::Request;
use super::yaml::compose;

/// Names at the top of a file that are no jobs, and that this reader does not know.
const NO_JOBS: [&str; 5] = ["include", "workflow", "spec", "true", "false"];
/// The stages of a file that names none.
const STAGES: [&str; 3] = ["build", "test", "deploy"];

/// Makes the pipeline that `request` asks for.
///
/// # Errors
/// What is wrong in the file, with its line.
pub fn create(request: &Request<'_>) -> Result<Pipeline, ReadError> {
    let text = (request.tree.read)(request.path)
        .ok_or_else(|| ReadError::at(0, format!("there is no file `{}`", request.path)))?;
    let mut pipeline = read(&text)?;
    for job in &mut pipeline.jobs {
        job.variables = pipeline.variables.iter().chain(&job.variables).cloned().collect();
    }
    Ok(pipeline)
}

/// Reads a `.gitlab-ci.yml`.
pub fn read(text: &str) -> Result<Pipeline, ReadError> {
    let root = compose(text)?;
    let mut stages: Vec<String> = STAGES.map(str::to_owned).to_vec();
    let mut pipeline = Pipeline::default();
    let mut default = Keywords::default();
    let mut jobs = Vec::new();
    for (key, value) in root.entries("the file")? {
        match key.as_str() {
            "stages" => stages = value.texts("stages")?,
            "variables" => pipeline.variables = parts::variables(value)?,
            "default" => read_default(value, &mut default)?,
            "image" | "services" | "before_script" | "after_script" | "cache" => drop(default.take(key, value)?),
            _ if key.starts_with('.') => {}
            _ if NO_JOBS.contains(&key.as_str()) => return Err(not_read_yet(value, key)),
            _ => jobs.push((key, value)),
        }
    }
    stages.retain(|stage| stage != ".pre" && stage != ".post");
    pipeline.stages = [vec![".pre".to_owned()], stages, vec![".post".to_owned()]].concat();
    for (name, node) in jobs {
        pipeline.jobs.push(read_job(name, node, &default, &pipeline.stages).map_err(|error| error.in_job(name))?);
    }
    if pipeline.jobs.is_empty() {
        return Err(ReadError::at(0, "the file has no visible job"));
    }
    check_dependencies(&pipeline)?;
    Ok(pipeline)
}

fn read_default(node: &Node, default: &mut Keywords) -> Result<(), ReadError> {
    for (key, value) in node.entries("default")? {
        if !default.take(key, value)? {
            return Err(not_read_yet(value, &format!("default:{key}")));
        }
    }
    Ok(())
}

fn read_job(name: &str, node: &Node, default: &Keywords, stages: &[String]) -> Result<Job, ReadError> {
    let mut own = Keywords::default();
    let mut job = Job { name: name.to_owned(), line: node.line, stage: "test".to_owned(), ..Job::default() };
    if name.len() > 255 {
        return Err(node.error("the name of a job has at most 255 characters"));
    }
    for (key, value) in node.entries(name)? {
        match key.as_str() {
            "stage" => job.stage = value.text(key)?,
            "script" => job.script = value.script(key)?,
            "variables" => job.variables = parts::variables(value)?,
            "environment" => job.environment = Some(parts::environment(value)?),
            "allow_failure" if value.entries(key).is_ok() => {
                return Err(not_read_yet(value, "allow_failure:exit_codes"));
            }
            "allow_failure" => {
                job.allow_failure = if value.boolean(key)? { AllowFailure::Yes } else { AllowFailure::No };
            }
            "dependencies" => job.dependencies = Some(value.texts(key)?),
            _ if own.take(key, value)? => {}
            _ => return Err(not_read_yet(value, key)),
        }
    }
    if job.script.is_empty() {
        return Err(node.error("the job has no `script`"));
    }
    if !stages.contains(&job.stage) {
        let known = stages.join("`, `");
        return Err(node.error(format!("the stage `{}` does not exist; the stages are `{known}`", job.stage)));
    }
    own.fill(default, &mut job);
    Ok(job)
}

fn check_dependencies(pipeline: &Pipeline) -> Result<(), ReadError> {
    let position = |stage: &str| pipeline.stages.iter().position(|s| s == stage);
    for job in &pipeline.jobs {
        for name in job.dependencies.iter().flatten() {
            let earlier =
                pipeline.jobs.iter().any(|other| other.name == *name && position(&other.stage) < position(&job.stage));
            if !earlier {
                let what = format!("`dependencies` names `{name}`, which is no job of an earlier stage");
                return Err(ReadError::at(job.line, what).in_job(&job.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(text: &str) -> Job {
        read(text).expect("it reads").jobs.remove(0)
    }

    fn refusal(text: &str) -> String {
        read(text).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_job_inherits_the_defaults_that_it_does_not_replace() {
        let pipeline = read(
            "default:\n  image: alpine\n  tags: [mayfly]\nbefore_script: [echo before]\nvariables: {A: 1}\n\
             one:\n  script: echo one\ntwo:\n  image: {name: rust, entrypoint: ['']}\n  before_script: []\n  script: [[a, [b]], c]\n  tags: []\n",
        )
        .expect("it reads");

        let [one, two] = pipeline.jobs.as_slice() else { panic!("two jobs") };
        assert_eq!(pipeline.stages, [".pre", "build", "test", "deploy", ".post"]);
        assert_eq!(pipeline.variables[0].value, "1");
        assert_eq!(one.image.as_ref().expect("an image").name, "alpine");
        assert_eq!((one.before_script.len(), &one.tags), (1, &vec!["mayfly".to_owned()]));
        assert_eq!(two.image.as_ref().and_then(|i| i.entrypoint.clone()), Some(vec![String::new()]));
        assert_eq!(two.script, ["a", "b", "c"]);
        assert!(two.before_script.is_empty() && two.tags.is_empty());
    }

    #[test]
    fn every_supported_keyword_is_read() {
        let job = job(r#"
stages: [test]
job:
  stage: test
  image: {name: img, docker: {platform: linux/arm64, user: me}, kubernetes: {user: 1001}, pull_policy: [always, if-not-present]}
  services:
    - postgres:16
    - {name: redis, alias: cache, command: [redis-server], entrypoint: [sh], variables: {P: "1"}}
  variables: {X: {value: "$Y", expand: false}}
  script: |
    one
    two
  after_script: [bye]
  cache:
    - {key: k, paths: [a/], policy: pull, when: always, fallback_keys: [f], unprotect: true, untracked: true}
    - {paths: [b/]}
  artifacts: {name: n, paths: [o/], exclude: [o/x], untracked: false, when: always, expire_in: 1 week, expose_as: it, access: none, reports: {junit: r.xml, coverage_report: {coverage_format: cobertura, path: c.xml}}}
  tags: [mayfly, cpu-4]
  environment: {name: production, url: https://example.com, action: start}
  allow_failure: true
  timeout: 1h 30m
  dependencies: []
"#);

        assert_eq!(job.services[0].image.name, "postgres:16");
        assert_eq!(job.services[1].alias.as_deref(), Some("cache"));
        assert!(job.variables[0].raw);
        assert_eq!(job.script, ["one\ntwo\n"]);
        assert_eq!((job.cache[0].key.as_str(), job.cache[1].key.as_str()), ("k", "default"));
        let artifacts = job.artifacts.expect("artifacts");
        assert_eq!(artifacts.reports[1], ("cobertura".to_owned(), vec!["c.xml".to_owned()]));
        assert_eq!(job.timeout, Some(Duration::from_secs(5400)));
        assert_eq!(job.dependencies, Some(Vec::new()));
        assert_eq!(job.environment.expect("one").action.as_deref(), Some("start"));
    }

    #[test]
    fn hidden_jobs_are_left_out_and_can_be_merged() {
        let job = job(".base: &base\n  image: alpine\n  script: [base]\njob:\n  <<: *base\n  script: [own]\n");

        assert_eq!((job.name.as_str(), job.script), ("job", vec!["own".to_owned()]));
        assert_eq!(job.image.expect("merged").name, "alpine");
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_job_and_line() {
        let text = "test:\n  script:\n    - make\n  rules:\n    - if: $X\n";
        assert_eq!(refusal(text), "job `test`, line 4: `rules` is not read yet");
        assert_eq!(refusal("include: other.yml\n"), "line 1: `include` is not read yet");
        assert_eq!(
            refusal("t:\n  script: x\n  cache:\n    key: {files: [a]}\n"),
            "job `t`, line 4: `cache:key:files` is not read yet"
        );
        assert_eq!(
            refusal("t:\n  script:\n    - !reference [a, script]\n"),
            "job `t`, line 3: the tag `!reference` is not read yet"
        );
    }

    #[test]
    fn mistakes_are_refused_with_a_sentence() {
        assert_eq!(
            refusal("t:\n  stage: nope\n  script: x\n"),
            "job `t`, line 1: the stage `nope` does not exist; the stages are `.pre`, `build`, `test`, `deploy`, `.post`"
        );
        assert_eq!(refusal("t:\n  image: a\n"), "job `t`, line 1: the job has no `script`");
        assert_eq!(refusal(""), "the file is empty");
        assert!(refusal("t:\n  script:\n    - echo: hi\n").contains("quote lines"));
        assert!(refusal("t: {script: x, dependencies: [u]}\nu: {script: x}").contains("no job of an earlier stage"));
        assert!(refusal("t: {script: x}\nt: {script: y}").contains("twice"));
    }

    #[test]
    fn hostile_text_is_refused_within_bounds() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(refusal(&"- ".repeat(100)).contains("nested deeper"));
        assert!(refusal(&" ".repeat(2_000_000)).contains("larger"));
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, of) in "bcdefgh".chars().zip("abcdefg".chars()) {
            bomb.push_str(&format!("{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n"));
        }
        assert!(refusal(&bomb).contains("aliases expand"));
    }
}
