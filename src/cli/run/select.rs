//! Decides which jobs run when the user names some: these, and those whose artifacts they need.

use std::collections::BTreeSet;

use crate::cli::exit::Usage;
use crate::pipeline::{Job, Pipeline};

/// The names of the jobs that run for `wanted`.
///
/// A name without the `1/3` or `: [a, b]` of a parallel job stands for all its siblings. A job's needs are followed where
/// they hand artifacts over; where a job names none, those of all earlier stages are handed over, as GitLab does it.
pub(super) fn select(pipeline: &Pipeline, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let mut chosen = BTreeSet::new();
    let mut ahead = Vec::new();
    for name in wanted {
        let meant: Vec<&Job> = pipeline.jobs.iter().filter(|job| job.name == *name || family(job) == name).collect();
        if meant.is_empty() {
            return Err(Usage::error(unknown(pipeline, name)));
        }
        ahead.extend(meant);
    }
    while let Some(job) = ahead.pop() {
        if chosen.insert(job.name.clone()) {
            ahead.extend(givers(pipeline, job));
        }
    }
    Ok(pipeline.jobs.iter().filter(|job| chosen.contains(&job.name)).map(|job| job.name.clone()).collect())
}

/// The jobs that were named themselves, by their full names.
pub(super) fn named(jobs: &[Job], wanted: &[String]) -> Vec<String> {
    let is_named = |job: &&Job| wanted.iter().any(|name| job.name == *name || family(job) == name);
    jobs.iter().filter(is_named).map(|job| job.name.clone()).collect()
}

/// The jobs whose artifacts `job` gets.
fn givers<'a>(pipeline: &'a Pipeline, job: &'a Job) -> impl Iterator<Item = &'a Job> {
    let place = |job: &Job| pipeline.stages.iter().position(|stage| *stage == job.stage);
    let by_needs = move |other: &Job| match &job.needs {
        Some(needs) => needs.iter().any(|need| need.job == other.name && need.artifacts),
        None => place(other) < place(job) && (other.artifacts.is_some() || job.dependencies.is_some()),
    };
    let by_dependencies = move |other: &Job| {
        job.dependencies
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| *name == other.name || name == family(other)))
    };
    pipeline.jobs.iter().filter(move |other| by_needs(other) && by_dependencies(other))
}

/// A parallel job's name without what tells it from its siblings.
fn family(job: &Job) -> &str {
    match (job.node, job.name.rsplit_once(' '), job.name.split_once(": [")) {
        (Some(_), _, Some((family, _))) => family,
        (Some(_), Some((family, _)), None) => family,
        _ => &job.name,
    }
}

fn unknown(pipeline: &Pipeline, name: &str) -> String {
    let distance = |job: &&Job| strsim::osa_distance(&job.name.to_lowercase(), &name.to_lowercase());
    let nearest = pipeline.jobs.iter().min_by_key(distance).filter(|job| {
        distance(job) <= name.chars().count().div_ceil(2) || job.name.to_lowercase().contains(&name.to_lowercase())
    });
    match nearest {
        Some(job) => format!("the pipeline has no job `{name}`; did you mean `{}`?", job.name),
        None => format!("the pipeline has no job `{name}`; `mayfly run --list` shows those that it has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Artifacts, Need, Node};

    fn job(name: &str, stage: &str, artifacts: bool) -> Job {
        let artifacts = artifacts.then(Artifacts::default);
        Job { name: name.into(), stage: stage.into(), artifacts, ..Job::default() }
    }

    fn pipeline() -> Pipeline {
        let need = |name: &str, artifacts| Need { job: name.into(), artifacts };
        Pipeline {
            stages: ["build", "test", "deploy"].map(str::to_owned).to_vec(),
            jobs: vec![
                job("compile", "build", true),
                job("lint", "build", false),
                Job { node: Some(Node { index: 1, total: 2 }), ..job("unit 1/2", "test", true) },
                Job { node: Some(Node { index: 2, total: 2 }), ..job("unit 2/2", "test", true) },
                Job { dependencies: Some(vec!["compile".into()]), ..job("pages", "deploy", false) },
                Job { needs: Some(vec![need("compile", true), need("lint", false)]), ..job("fast", "test", false) },
                Job { needs: Some(Vec::new()), ..job("alone", "deploy", false) },
                job("ship", "deploy", false),
            ],
            ..Pipeline::default()
        }
    }

    #[test]
    fn a_job_brings_those_whose_artifacts_it_gets() {
        for (wanted, expected) in [
            ("lint", "lint"),
            ("unit 1/2", "compile, unit 1/2"),
            ("unit", "compile, unit 1/2, unit 2/2"),
            ("pages", "compile, pages"),
            ("fast", "compile, fast"),
            ("alone", "alone"),
            ("ship", "compile, unit 1/2, unit 2/2, ship"),
        ] {
            let chosen = select(&pipeline(), &[wanted.to_owned()]).expect("it is there");
            assert_eq!(chosen.join(", "), expected, "{wanted}");
        }
    }

    #[test]
    fn an_unknown_job_is_told_with_the_nearest_name() {
        for (name, said) in [("compiel", "did you mean `compile`?"), ("database-migration", "--list")] {
            let error = select(&pipeline(), &[name.to_owned()]).expect_err("it is not there").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
