//! Writes lines for people: colours on a terminal only.

use std::io::{self, IsTerminal, Write};

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
    quiet: bool,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    Faint,
    Good,
    Bad,
    Warning,
}

impl Screen {
    /// Standard output; `quiet` shows nothing.
    pub(super) fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen { terminal, colours: terminal && !plain, quiet }
    }

    /// Whether lines can be written over.
    pub(super) fn is_terminal(self) -> bool {
        self.terminal && !self.quiet
    }

    /// Whether lines may have colours.
    pub(super) fn has_colours(self) -> bool {
        self.colours
    }

    /// One line. A reader who has gone away is no error.
    pub(super) fn line(self, tone: Tone, text: &str) {
        self.write(&self.paint(tone, text));
    }

    /// `text` as a line of this tone looks.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Title => self.colour("1", text),
            Tone::Faint => self.colour("2", text),
            Tone::Good => self.colour("32", text),
            Tone::Bad => self.colour("31", text),
            Tone::Warning => self.colour("33", text),
        }
    }

    /// `text` in the colour with these numbers (SGR).
    pub(super) fn colour(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A labelled step: `  knock   …`.
    pub(super) fn step(self, label: &str, text: &str) {
        let label = self.colour("36", &format!("{label:>8}"));
        self.write(&format!("{label}  {text}"));
    }

    /// A line that is painted already.
    pub(super) fn write(self, line: &str) {
        if !self.quiet {
            let _ = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// Says on standard error why the command failed.
pub(super) fn print_error(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let lines: Vec<String> = text.lines().map(super::clean::plain).collect();
    let _ = writeln!(io::stderr().lock(), "error: {}", lines.join("\n"));
}

/// Writes a value for machines that read line by line.
pub(super) fn print_json_line(value: &serde_json::Value) {
    let _ = writeln!(io::stdout().lock(), "{value}");
}

/// Writes a value for machines.
pub(super) fn print_json(value: &serde_json::Value) {
    let _ = writeln!(io::stdout().lock(), "{value:#}");
}
