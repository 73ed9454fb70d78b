//! Writes lines for people: colours on a terminal only.

use std::io::{self, IsTerminal, Write};

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
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
}

impl Screen {
    /// Standard output; `quiet` shows nothing.
    pub(super) fn new(quiet: bool) -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Screen { colours, quiet }
    }

    /// One line. A reader who has gone away is no error.
    pub(super) fn line(self, tone: Tone, text: &str) {
        if self.quiet {
            return;
        }
        let code = match tone {
            Tone::Plain => "",
            Tone::Title => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
        };
        let line = match self.colours && !code.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m\n"),
            false => format!("{text}\n"),
        };
        let _ = io::stdout().lock().write_all(line.as_bytes());
    }

    /// A labelled step: `  knock   …`.
    pub(super) fn step(self, label: &str, text: &str) {
        if self.quiet {
            return;
        }
        let label = format!("{label:>8}");
        let label = if self.colours { format!("\x1b[36m{label}\x1b[0m") } else { label };
        let _ = io::stdout().lock().write_all(format!("{label}  {text}\n").as_bytes());
    }
}

/// Writes a value for machines.
pub(super) fn print_json(value: &serde_json::Value) {
    let _ = writeln!(io::stdout().lock(), "{value:#}");
}

/// Takes control sequences and section marks out of a line of a trace.
pub(super) fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&rest[..at]);
        let sequence = &rest[at + 1..];
        let end = sequence.find(|c: char| c.is_ascii_alphabetic()).map_or(sequence.len(), |end| end + 1);
        rest = &sequence[end..];
    }
    out.push_str(rest);
    out.retain(|c| !c.is_control());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_what_steers_a_terminal() {
        assert_eq!(plain("\x1b[0K\x1b[32;1m$ echo hi\x1b[0;m\r"), "$ echo hi");
        assert_eq!(plain("a\x1b"), "a");
    }
}
