//! Owns how the commands write times, prices, sizes and tables.

use std::time::Duration;

use super::clean::plain;
use super::screen::{Screen, Tone};

/// `0:07`, `1:02:03`.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `$0.00082`.
pub(super) fn dollars(amount: f64) -> String {
    format!("${amount:.5}")
}

/// `1 job`, `2 jobs`.
pub(super) fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Rows under a head, each column as wide as it must be. Foreign text in it is made plain.
#[derive(Debug, Default)]
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    /// A table with these columns.
    pub(super) fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, tone: Tone, cells: Vec<String>) {
        self.rows.push((tone, cells.iter().map(|cell| plain(cell)).collect()));
    }

    /// Writes it; the last column may be as long as it likes.
    pub(super) fn show(&self, screen: Screen) {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
                cells.map(|cell| cell.chars().count()).chain([self.head[column].len()]).max().unwrap_or_default()
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> =
                cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            format!("  {}", padded.join("  ")).trim_end().to_owned()
        };
        screen.line(Tone::Faint, &line(&mut self.head.iter().copied()));
        for (tone, cells) in &self.rows {
            screen.line(*tone, &line(&mut cells.iter().map(String::as_str)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_a_clock_does() {
        for (seconds, text) in [(0, "0:00"), (7, "0:07"), (62, "1:02"), (3723, "1:02:03")] {
            assert_eq!(clock(Duration::from_secs(seconds)), text);
        }
    }
}
