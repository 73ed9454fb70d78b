//! Finds the tags that no Mayfly runner carries, and what their author probably meant.

use crate::plan::{Mib, Millicpu, VOCABULARY, nearest_label};

use super::reading::ReadJob;

/// A tag outside the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct ForeignTag {
    /// As written.
    pub(in crate::cli) tag: String,
    /// The jobs that carry it.
    pub(in crate::cli) jobs: Vec<String>,
    /// The tag of the vocabulary that it is probably a slip of.
    pub(in crate::cli) meant: Option<&'static str>,
}

/// The foreign tags of `jobs`, each once.
pub(in crate::cli) fn foreign_tags(jobs: &[ReadJob]) -> Vec<ForeignTag> {
    let mut foreign: Vec<ForeignTag> = Vec::new();
    for job in jobs {
        for tag in job.tags.iter().filter(|tag| !VOCABULARY.contains(&tag.as_str())) {
            match foreign.iter_mut().find(|known| known.tag == *tag) {
                Some(known) if known.jobs.contains(&job.name) => {}
                Some(known) => known.jobs.push(job.name.clone()),
                None => foreign.push(ForeignTag { tag: tag.clone(), jobs: vec![job.name.clone()], meant: meant(tag) }),
            }
        }
    }
    foreign
}

impl ForeignTag {
    /// What that means for its jobs.
    pub(in crate::cli) fn words(&self) -> String {
        let (jobs, ask) = match self.jobs.as_slice() {
            [job] => (format!("job `{job}`"), "asks"),
            [first, second] => (format!("jobs `{first}` and `{second}`"), "ask"),
            [first, rest @ ..] => (format!("job `{first}` and {} others", rest.len()), "ask"),
            [] => ("no job".to_owned(), "asks"),
        };
        let waits = if ask == "ask" { "they wait" } else { "it waits" };
        let question = self.meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        format!("{jobs} {ask} for tag `{}`: on GitLab {waits} until a runner carries it{question}", self.tag)
    }
}

/// The tag of the vocabulary that `tag` is a slip of.
fn meant(tag: &str) -> Option<&'static str> {
    let lower = tag.to_lowercase();
    // A longer word may differ in two letters, a short one in one: else every short tag would be a slip.
    let most = (lower.chars().count() / 3).clamp(1, 2);
    let near = VOCABULARY.iter().map(|label| (strsim::osa_distance(&lower, label), *label));
    let kind = ["cpu-", "mem-", "disk-"].into_iter().find(|kind| lower.starts_with(kind));
    match kind {
        // Another amount is no slip of the fingers: the next larger one is meant, of too much the largest.
        Some(kind) => nearest_label(&lower).or_else(|| {
            let mut of_kind = VOCABULARY.iter().filter(|label| label.starts_with(kind));
            let is_amount = Mib::read(&lower[kind.len()..]).is_ok() || Millicpu::read(&lower[kind.len()..]).is_ok();
            match is_amount {
                true => of_kind.next_back().copied(),
                false => of_kind.min_by_key(|label| strsim::osa_distance(&lower, label)).copied(),
            }
        }),
        None => near.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, l)| l),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_has_a_nearest_tag_and_a_teams_own_tag_has_none() {
        for (tag, expected) in [
            ("cpu-3", Some("cpu-4")),
            ("cpu-64", Some("cpu-32")),
            ("cpu-x", Some("cpu-1")),
            ("cpu4", Some("cpu-4")),
            ("mem-8gb", Some("mem-8g")),
            ("mem-5g", Some("mem-6g")),
            ("Mayfly", Some("mayfly")),
            ("mayflie", Some("mayfly")),
            ("ondemand", Some("on-demand")),
            ("arm46", Some("arm64")),
            ("spott", Some("spot")),
            ("docker", None),
            ("linux", None),
            ("test", None),
            ("ci-1", None),
            ("gpu", None),
        ] {
            assert_eq!(meant(tag), expected, "{tag}");
        }
    }

    #[test]
    fn a_foreign_tag_is_named_once_with_all_its_jobs() {
        let job = |name: &str, tags: &[&str]| ReadJob {
            name: name.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..ReadJob::default()
        };
        let foreign =
            foreign_tags(&[job("a", &["mayfly", "docker", "cpu-3"]), job("b", &["docker"]), job("c", &["docker"])]);
        let words: Vec<String> = foreign.iter().map(ForeignTag::words).collect();
        assert_eq!(
            words,
            [
                "job `a` and 2 others ask for tag `docker`: on GitLab they wait until a runner carries it",
                "job `a` asks for tag `cpu-3`: on GitLab it waits until a runner carries it; did you mean `cpu-4`?",
            ]
        );
    }
}
