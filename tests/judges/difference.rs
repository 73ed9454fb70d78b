//! Compares what two readers say, keyword by keyword, with the differences that are known to be right.

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;
use serde_json::Value;

use crate::normalise::{FILE, Jobs};
use crate::repository::pipelines;

/// `differences.toml`: what differs, why, and the document that decides for ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    difference: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    reason: String,
    documentation: String,
    cases: Vec<Difference>,
}

/// One keyword of one job that two readers see differently. No `keyword` is the job as a whole, no `ours` or `theirs`
/// a reader that has nothing there.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    pub fixture: String,
    pub view: String,
    pub job: String,
    pub keyword: Option<String>,
    pub ours: Option<Value>,
    pub theirs: Option<Value>,
}

impl Difference {
    /// As it would stand in `differences.toml`.
    fn line(&self) -> String {
        let fields = [
            ("fixture", Some(Value::from(self.fixture.clone()))),
            ("view", Some(Value::from(self.view.clone()))),
            ("job", Some(Value::from(self.job.clone()))),
            ("keyword", self.keyword.clone().map(Value::from)),
            ("ours", self.ours.clone()),
            ("theirs", self.theirs.clone()),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("{name} = {}", inline(&value?))));
        format!("  {{ {} }},", fields.collect::<Vec<_>>().join(", "))
    }
}

/// How `ours` and `theirs` differ on `fixture` in this `view` of it.
pub fn differences(fixture: &str, view: &str, ours: &Jobs, theirs: &Jobs) -> Vec<Difference> {
    let mut found = order(fixture, view, ours, theirs);
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for job in names {
        let blank = Difference {
            fixture: fixture.to_owned(),
            view: view.to_owned(),
            job: job.clone(),
            keyword: None,
            ours: None,
            theirs: None,
        };
        match (ours.get(job), theirs.get(job)) {
            (Some(ours), Some(theirs)) => compare(String::new(), Some(ours), Some(theirs), &blank, &mut found),
            (Some(_), None) => found.push(Difference { ours: Some("there".into()), ..blank }),
            (None, _) => found.push(Difference { theirs: Some("there".into()), ..blank }),
        }
    }
    found
}

/// The order of the jobs that both have.
fn order(fixture: &str, view: &str, ours: &Jobs, theirs: &Jobs) -> Vec<Difference> {
    let shared =
        |of: &Jobs, with: &Jobs| of.keys().filter(|name| with.contains_key(*name)).cloned().collect::<Vec<_>>();
    let (ours, theirs) = (shared(ours, theirs), shared(theirs, ours));
    let (fixture, view, job) = (fixture.to_owned(), view.to_owned(), FILE.to_owned());
    let difference = (ours != theirs).then(|| Difference {
        fixture,
        view,
        job,
        keyword: Some("order".to_owned()),
        ours: Some(ours.into()),
        theirs: Some(theirs.into()),
    });
    difference.into_iter().collect()
}

fn compare(
    path: String,
    ours: Option<&Value>,
    theirs: Option<&Value>,
    blank: &Difference,
    found: &mut Vec<Difference>,
) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (ours, theirs) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(below(key), a.get(key), b.get(key), blank, found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() && a.iter().all(Value::is_object) => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(below(&index.to_string()), Some(a), Some(b), blank, found);
            }
        }
        _ => {
            let (ours, theirs) = (ours.filter(|v| !v.is_null()).cloned(), theirs.filter(|v| !v.is_null()).cloned());
            if ours != theirs {
                found.push(Difference { keyword: Some(path), ours, theirs, ..blank.clone() });
            }
        }
    }
}

/// Fails for a difference that is not known, and for a known one that is not there any more.
pub fn judge(found: &[Difference], views: impl Fn(&str) -> bool, refusals: &[String]) {
    let path = pipelines().join("differences.toml");
    let known: Known = toml::from_str(&fs::read_to_string(path).expect("differences.toml")).expect("TOML");
    for group in &known.difference {
        let documented = group.documentation.starts_with("https://docs.gitlab.com/");
        assert!(documented && !group.reason.is_empty(), "`{}` names no document of GitLab's", group.reason);
    }
    let known: Vec<Difference> =
        known.difference.into_iter().flat_map(|group| group.cases).filter(|case| views(&case.view)).collect();
    let lines = |of: &[Difference], without: &[Difference]| -> Vec<String> {
        of.iter().filter(|difference| !without.contains(difference)).map(Difference::line).collect()
    };
    let (new, gone) = (lines(found, &known), lines(&known, found));
    assert!(
        new.is_empty() && gone.is_empty() && refusals.is_empty(),
        "refused by ours:\n{}\nnot in differences.toml:\n{}\nno difference any more:\n{}",
        refusals.join("\n"),
        new.join("\n"),
        gone.join("\n"),
    );
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{} = {}", Value::from(key.as_str()), inline(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        simple => simple.to_string(),
    }
}
