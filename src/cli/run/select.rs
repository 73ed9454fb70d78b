//! Decides which jobs run when the user names some: these, and those whose artifacts they need.

use std::collections::BTreeSet;

use crate::cli::exit::Usage;
use crate::cli::source::ReadJob;

/// The names of the jobs that run for `wanted`; `None` if the user names none, and all do.
///
/// A name without the `1/3` or `: [a, b]` of a parallel job stands for all its siblings. A job brings those that hand
/// artifacts over to it, not those that it only comes after.
pub(super) fn select(jobs: &[ReadJob], wanted: &[String]) -> anyhow::Result<Option<Vec<String>>> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut chosen = BTreeSet::new();
    let mut ahead: Vec<&ReadJob> = Vec::new();
    for name in wanted {
        let before = ahead.len();
        ahead.extend(jobs.iter().filter(|job| job.is_called(name)));
        if ahead.len() == before {
            return Err(Usage::error(unknown(jobs, name)));
        }
    }
    while let Some(job) = ahead.pop() {
        if chosen.insert(job.name.as_str()) {
            let gives = |other: &&ReadJob| other.makes_artifacts() && job.dependencies().any(|name| name == other.name);
            ahead.extend(jobs.iter().filter(gives));
        }
    }
    Ok(Some(jobs.iter().filter(|job| chosen.contains(job.name.as_str())).map(|job| job.name.clone()).collect()))
}

fn unknown(jobs: &[ReadJob], name: &str) -> String {
    let lower = name.to_lowercase();
    let distance = |job: &&ReadJob| strsim::osa_distance(&job.name.to_lowercase(), &lower);
    let is_near = |job: &&ReadJob| {
        distance(job) <= (lower.chars().count() / 2).max(1) || job.name.to_lowercase().contains(&lower)
    };
    match jobs.iter().filter(is_near).min_by_key(distance) {
        Some(job) => format!("the pipeline has no job `{name}`; did you mean `{}`?", job.name),
        None => format!("the pipeline has no job `{name}`; `mayfly run --list` shows those that it has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(name: &str, artifacts: bool, dependencies: &[&str]) -> ReadJob {
        let artifacts = if artifacts { json!([{"paths": ["out/"]}]) } else { json!(null) };
        let dependencies: Vec<_> = dependencies.iter().map(|name| json!({"name": name})).collect();
        let claim = json!({"artifacts": artifacts, "dependencies": dependencies});
        ReadJob { name: name.into(), claim, ..ReadJob::default() }
    }

    fn jobs() -> Vec<ReadJob> {
        vec![
            job("compile", true, &[]),
            job("lint", false, &[]),
            job("unit 1/2", true, &["compile", "lint"]),
            job("unit 2/2", true, &["compile", "lint"]),
            job("pages", false, &["compile"]),
            job("alone", false, &[]),
            job("ship", false, &["compile", "lint", "unit 1/2", "unit 2/2"]),
        ]
    }

    #[test]
    fn a_job_brings_those_whose_artifacts_it_gets() {
        for (wanted, expected) in [
            ("lint", "lint"),
            ("unit 1/2", "compile, unit 1/2"),
            ("unit", "compile, unit 1/2, unit 2/2"),
            ("pages", "compile, pages"),
            ("alone", "alone"),
            ("ship", "compile, unit 1/2, unit 2/2, ship"),
        ] {
            let chosen = select(&jobs(), &[wanted.to_owned()]).expect("it is there").expect("it is named");
            assert_eq!(chosen.join(", "), expected, "{wanted}");
        }
        assert_eq!(select(&jobs(), &[]).expect("nothing is wrong"), None);
    }

    #[test]
    fn an_unknown_job_is_told_with_the_nearest_name() {
        for (name, said) in [("compiel", "`compile`?"), ("database-migration", "--list"), ("UNIT 1", "`unit 1/2`?")] {
            let error = select(&jobs(), &[name.to_owned()]).expect_err("it is not there").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
