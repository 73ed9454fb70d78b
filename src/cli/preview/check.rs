//! `mayfly check`: the same forecast as a lint.

use crate::cli::exit::ExitCode;
use crate::cli::screen::{Screen, Tone, print_json};
use crate::cli::words::many;

use super::options::Check;
use super::table;

impl Check {
    /// Runs the command.
    pub(in crate::cli) async fn run(self) -> ExitCode {
        let screen = Screen::new(self.what.json);
        let previewed = match self.what.preview().await {
            Ok(previewed) => previewed,
            Err(error) => return self.what.failed(&error),
        };
        table::show_refusals(&previewed, screen);
        table::show_hints(&previewed, screen);
        let jobs = many(previewed.forecasts.len(), "job");
        let (refused, misspelt) = (previewed.refused().count(), previewed.misspelt().count());
        match previewed.is_fine() {
            true => screen.line(Tone::Good, &format!("fine: {jobs}, {} and none refused", previewed.event)),
            false => {
                let tags = many(misspelt, "misspelt tag");
                screen.line(Tone::Bad, &format!("not fine: {refused} of {jobs} refused, {tags}"));
            }
        }
        if self.what.json {
            print_json(&previewed.json());
        }
        if previewed.is_fine() { ExitCode::Success } else { ExitCode::Failure }
    }
}
