//! Writes a forecast for people: a table, and below it what would be refused and why.

use crate::cli::clean::plain;
use crate::cli::screen::{Screen, Tone};
use crate::cli::words::{Table, dollars, many};

use super::command::Previewed;
use super::forecast::Forecast;

/// Writes the table.
pub(super) fn show(previewed: &Previewed, screen: Screen) {
    let mut table = Table::new(&["job", "stage", "image", "asked → given", "lane", "price a minute"]);
    for forecast in &previewed.forecasts {
        let tone = if forecast.plan.is_ok() { Tone::Plain } else { Tone::Bad };
        table.row(
            tone,
            vec![
                forecast.job.clone(),
                forecast.stage.clone(),
                forecast.image.clone().unwrap_or_else(|| "-".to_owned()),
                size(forecast),
                forecast.lane().unwrap_or_else(|| "refused".to_owned()),
                price(forecast, &previewed.region),
            ],
        );
    }
    table.show(screen);
    if previewed.refused().next().is_some() {
        screen.line(Tone::Plain, "");
    }
    show_refusals(previewed, screen);
    if !previewed.foreign_tags.is_empty() || !previewed.notes.is_empty() {
        screen.line(Tone::Plain, "");
    }
    show_hints(previewed, screen);
}

/// What would be refused, each with its whole sentence.
pub(super) fn show_refusals(previewed: &Previewed, screen: Screen) {
    let refused: Vec<(&str, &str)> = previewed.refused().collect();
    if refused.is_empty() {
        return;
    }
    screen.line(Tone::Bad, &format!("{} would be refused:", many(refused.len(), "job")));
    for (job, sentence) in refused {
        screen.line(Tone::Plain, &plain(&format!("  {job}: {sentence}")));
    }
}

/// Tags that nobody may carry, and what only a real GitLab does.
pub(super) fn show_hints(previewed: &Previewed, screen: Screen) {
    for tag in &previewed.foreign_tags {
        let tone = if tag.meant.is_some() { Tone::Bad } else { Tone::Warning };
        screen.line(tone, &plain(&format!("tags: {}", tag.words())));
    }
    for note in &previewed.notes {
        screen.line(Tone::Plain, &plain(&format!("note: {note}")));
    }
}

fn size(forecast: &Forecast) -> String {
    let asked = forecast.asked.as_deref().unwrap_or("default");
    match forecast.given() {
        Some(given) => format!("{asked} → {given}"),
        None => asked.to_owned(),
    }
}

/// On spot it is the most that a minute costs.
fn price(forecast: &Forecast, region: &str) -> String {
    match (&forecast.plan, forecast.per_minute) {
        (Err(_), _) => "-".to_owned(),
        (Ok(plan), Some(price)) if plan.spot => format!("at most {}", dollars(price)),
        (Ok(_), Some(price)) => dollars(price),
        (Ok(_), None) => format!("not known in {region}"),
    }
}
