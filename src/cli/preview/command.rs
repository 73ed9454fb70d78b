//! Reads the pipeline and forecasts its jobs: what `preview` shows and `check` judges.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::clean::plain;
use crate::cli::exit::{ExitCode, Usage};
use crate::cli::interrupts::Interrupts;
use crate::cli::screen::{Screen, Tone, print_error, print_json};
use crate::cli::source::{ForeignTag, Reading, Snapshot, foreign_tags};

use super::fleet::{fleet, runner};
use super::forecast::Forecast;
use super::options::{Preview, What};
use super::table;

/// A pipeline's forecast.
#[derive(Debug)]
pub(super) struct Previewed {
    /// The event in words.
    pub(super) event: String,
    /// The region that prices hold for.
    pub(super) region: String,
    /// The jobs, in the order of the file.
    pub(super) forecasts: Vec<Forecast>,
    /// Tags outside the vocabulary.
    pub(super) foreign_tags: Vec<ForeignTag>,
    /// What only a real GitLab does.
    pub(super) notes: Vec<String>,
}

impl Preview {
    /// Runs the command.
    pub(in crate::cli) async fn run(self) -> ExitCode {
        let screen = Screen::new(self.what.json);
        match self.what.preview().await {
            Ok(previewed) => {
                screen.line(Tone::Title, &plain(&previewed.event));
                table::show(&previewed, screen);
                if self.what.json {
                    print_json(&previewed.json());
                }
                ExitCode::Success
            }
            Err(error) => self.what.failed(&error),
        }
    }
}

impl What {
    /// Reads the pipeline and forecasts its jobs.
    pub(super) async fn preview(&self) -> anyhow::Result<Previewed> {
        Interrupts::listen()?.or(self.read()).await
    }

    async fn read(&self) -> anyhow::Result<Previewed> {
        let fleet = fleet(self.fleet.as_deref())?;
        let runner = runner(&fleet, self.runner.as_deref())?;
        let file = self.file.clone().or_else(|| Some(PathBuf::from(".gitlab-ci.yml")).filter(|file| file.is_file()));
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            return Err(Usage::error(format!("there is no file `{}`", file.display())));
        }
        let directory = file.as_deref().and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
        let snapshot = Snapshot::take(directory.unwrap_or(Path::new(".")), &self.event, file.as_deref())?;
        let trigger = self.event.trigger(&snapshot)?;
        let reading = Reading::of(&snapshot, &trigger).await.map_err(|error| named(error, self.file.as_deref()))?;
        Ok(Previewed {
            event: self.event.words(&snapshot),
            region: fleet.region.clone(),
            forecasts: reading.jobs.iter().map(|job| Forecast::of(job, &fleet, runner)).collect(),
            foreign_tags: foreign_tags(&reading.jobs),
            notes: snapshot.notes.into_iter().chain(reading.notes).collect(),
        })
    }

    /// Says why there is no forecast.
    pub(super) fn failed(&self, error: &anyhow::Error) -> ExitCode {
        print_error(error);
        if self.json {
            print_json(&json!({"error": format!("{error:#}")}));
        }
        ExitCode::of(error)
    }
}

impl Previewed {
    /// The refused jobs and their sentences.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        self.forecasts
            .iter()
            .filter_map(|forecast| Some((forecast.job.as_str(), forecast.plan.as_ref().err()?.as_str())))
    }

    /// The tags that are slips of others.
    pub(super) fn misspelt(&self) -> impl Iterator<Item = &ForeignTag> {
        self.foreign_tags.iter().filter(|tag| tag.meant.is_some())
    }

    /// Whether there is nothing to mend.
    pub(super) fn is_fine(&self) -> bool {
        self.refused().next().is_none() && self.misspelt().next().is_none()
    }

    /// For machines:
    ///
    /// ```text
    /// { "event", "region", "fine": true,
    ///   "jobs": [ { "job", "stage", "image", "services", "asked", "size": { "vcpus", "memory_gib", "disk_gib" },
    ///               "lane", "arch", "dollars_per_minute", "refused": null } ],
    ///   "foreign_tags": [ { "tag", "jobs", "meant" } ], "notes": [] }
    /// ```
    pub(super) fn json(&self) -> Value {
        let tag = |tag: &ForeignTag| json!({"tag": tag.tag, "jobs": tag.jobs, "meant": tag.meant});
        json!({
            "event": self.event,
            "region": self.region,
            "fine": self.is_fine(),
            "jobs": self.forecasts.iter().map(Forecast::json).collect::<Vec<_>>(),
            "foreign_tags": self.foreign_tags.iter().map(tag).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// The pipeline's file as the user calls it: the snapshot knows it under GitLab's name.
fn named(error: anyhow::Error, file: Option<&Path>) -> anyhow::Error {
    match (error.downcast_ref::<Usage>(), file) {
        (Some(Usage(message)), Some(file)) if file.file_name().is_some_and(|name| name != ".gitlab-ci.yml") => {
            Usage::error(message.replace(".gitlab-ci.yml", &file.to_string_lossy()))
        }
        _ => error,
    }
}
