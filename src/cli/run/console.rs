//! Writes lines above a progress line that stays at the bottom of a terminal; elsewhere there are lines only.

use std::cell::RefCell;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::screen::{Screen, Tone};

/// Lines, and the line below them.
pub(super) struct Console {
    pub(super) screen: Screen,
    bar: Option<ProgressBar>,
    shown: RefCell<String>,
}

impl Console {
    pub(super) fn new(screen: Screen) -> Console {
        let bar = screen.is_terminal().then(|| {
            let style = ProgressStyle::with_template("{wide_msg}").expect("it is a template");
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
            bar.with_style(style)
        });
        Console { screen, bar, shown: RefCell::default() }
    }

    /// Lines that are painted already, at once: the progress line is drawn anew only once.
    pub(super) fn write(&self, lines: &[String]) {
        let write = || lines.iter().for_each(|line| self.screen.write(line));
        match &self.bar {
            _ if lines.is_empty() => {}
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// One line.
    pub(super) fn line(&self, tone: Tone, text: &str) {
        self.write(&[self.screen.paint(tone, text)]);
    }

    /// What the progress line says now.
    pub(super) fn progress(&self, text: String) {
        if let Some(bar) = &self.bar
            && *self.shown.borrow() != text
        {
            bar.set_message(text.clone());
            bar.tick();
            self.shown.replace(text);
        }
    }

    /// Takes the progress line away.
    pub(super) fn end_progress(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
