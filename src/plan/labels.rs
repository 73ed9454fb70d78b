//! Owns the label vocabulary: the tags by which a job says its size.

use thiserror::Error;

use super::Arch;
use super::quantity::{Mib, Millicpu};

/// Every tag of a Mayfly runner; a team's own tags come on top (GitLab allows 50).
pub const VOCABULARY: [&str; 37] = [
    "mayfly",
    "cpu-0.25",
    "cpu-0.5",
    "cpu-1",
    "cpu-2",
    "cpu-4",
    "cpu-8",
    "cpu-16",
    "cpu-32",
    "mem-512m",
    "mem-1g",
    "mem-2g",
    "mem-3g",
    "mem-4g",
    "mem-6g",
    "mem-8g",
    "mem-12g",
    "mem-16g",
    "mem-24g",
    "mem-30g",
    "mem-32g",
    "mem-48g",
    "mem-60g",
    "mem-64g",
    "mem-96g",
    "mem-120g",
    "mem-244g",
    "disk-30g",
    "disk-50g",
    "disk-60g",
    "disk-100g",
    "disk-150g",
    "disk-200g",
    "arm64",
    "amd64",
    "spot",
    "on-demand",
];

/// What a job's tags ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// From `cpu-…`.
    pub cpu: Option<Millicpu>,
    /// From `mem-…`.
    pub memory: Option<Mib>,
    /// From `disk-…`.
    pub disk: Option<Mib>,
    /// From `arm64` or `amd64`.
    pub arch: Option<Arch>,
    /// From `spot` or `on-demand`.
    pub spot: Option<bool>,
}

/// Tags that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the tags `{first}` and `{second}` contradict each other: keep one")]
pub struct LabelError {
    first: String,
    second: String,
}

impl Labels {
    /// Reads a job's tags; tags outside the vocabulary are the team's own.
    ///
    /// # Errors
    /// When two tags say different things about one quantity.
    pub fn read<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Labels, LabelError> {
        let mut labels = Labels::default();
        let mut said: Vec<(&str, &str)> = Vec::new();
        for tag in tags {
            if !VOCABULARY.contains(&tag) {
                continue;
            }
            let Some(about) = labels.set(tag) else { continue };
            match said.iter().find(|(other, first)| *other == about && *first != tag) {
                Some((_, first)) => return Err(LabelError { first: (*first).into(), second: tag.into() }),
                None => said.push((about, tag)),
            }
        }
        Ok(labels)
    }

    /// Takes one tag of the vocabulary; tells what it is about.
    fn set(&mut self, tag: &str) -> Option<&'static str> {
        if let Some(vcpus) = tag.strip_prefix("cpu-") {
            self.cpu = Millicpu::read(vcpus).ok();
            return Some("cpu");
        }
        if let Some(memory) = tag.strip_prefix("mem-") {
            self.memory = Mib::read(memory).ok();
            return Some("memory");
        }
        if let Some(disk) = tag.strip_prefix("disk-") {
            self.disk = Mib::read(disk).ok();
            return Some("disk");
        }
        match tag {
            "arm64" | "amd64" => {
                self.arch = Arch::read(tag);
                Some("arch")
            }
            "spot" | "on-demand" => {
                self.spot = Some(tag == "spot");
                Some("spot")
            }
            _ => None,
        }
    }
}

/// The label of the vocabulary that `tag` was probably meant to be, for a tag that looks like a size.
pub fn nearest_label(tag: &str) -> Option<&'static str> {
    let (kind, value) = tag.split_once('-')?;
    let same_kind = VOCABULARY.iter().filter(|label| label.strip_prefix(kind).is_some_and(|r| r.starts_with('-')));
    let wanted = match kind {
        "cpu" => Millicpu::read(value).ok()?.0,
        "mem" | "disk" => Mib::read(value).ok()?.0,
        _ => return None,
    };
    let amount = |label: &str| match kind {
        "cpu" => Millicpu::read(&label[4..]).map(|m| m.0).ok(),
        _ => Mib::read(&label[kind.len() + 1..]).map(|m| m.0).ok(),
    };
    same_kind.copied().find(|label| amount(label).is_some_and(|amount| amount >= wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_label_is_a_quantity() {
        for label in VOCABULARY.iter().filter(|l| l.contains('-') && **l != "on-demand") {
            let labels = Labels::read([*label]).unwrap();
            assert!(labels.cpu.is_some() || labels.memory.is_some() || labels.disk.is_some(), "{label}");
        }
    }

    #[test]
    fn labels_are_read_and_other_tags_are_left_alone() {
        let labels = Labels::read(["mayfly", "cpu-0.5", "mem-3g", "docker", "cpu-3", "arm64", "spot"]).unwrap();
        assert_eq!(labels.cpu, Some(Millicpu(500)));
        assert_eq!(labels.memory, Some(Mib(3072)));
        assert_eq!(labels.arch, Some(Arch::Arm64));
        assert_eq!(labels.spot, Some(true));
    }

    #[test]
    fn contradictions_are_named() {
        let error = Labels::read(["cpu-2", "mem-4g", "cpu-4"]).unwrap_err();
        assert_eq!(error.to_string(), "the tags `cpu-2` and `cpu-4` contradict each other: keep one");
        assert!(Labels::read(["spot", "on-demand"]).is_err());
        assert!(Labels::read(["cpu-2", "cpu-2"]).is_ok());
    }

    #[test]
    fn a_size_outside_the_vocabulary_has_a_nearest_label() {
        assert_eq!(nearest_label("cpu-3"), Some("cpu-4"));
        assert_eq!(nearest_label("mem-5g"), Some("mem-6g"));
        assert_eq!(nearest_label("disk-20g"), Some("disk-30g"));
        assert_eq!(nearest_label("docker"), None);
    }
}
