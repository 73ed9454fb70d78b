//! Owns how a line of the helper's tools looks in the log (runner-behaviour.md §6.6).

use std::fmt::Write;

use crate::agent::log::JobLog;

/// One line about caches or artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperLine {
    /// As it should be.
    Info(String),
    /// Not as asked, and the job goes on.
    Warning(String),
    /// It went wrong; whether the job goes on, others decide.
    Error(String),
}

/// Writes `line` as GitLab Runner's helper does: text up to column 50, reset, a blank.
pub fn say(log: &JobLog, line: &HelperLine) {
    say_with(log, line, &[]);
}

/// The same with fields, which are in the alphabet's order, behind it.
pub fn say_with(log: &JobLog, line: &HelperLine, fields: &[(&str, String)]) {
    log.line(&formatted(line, fields));
}

fn formatted(line: &HelperLine, fields: &[(&str, String)]) -> String {
    let (colour, prefix, text) = match line {
        HelperLine::Info(text) => ("", "", text),
        HelperLine::Warning(text) => ("\x1b[0;33m", "WARNING: ", text),
        HelperLine::Error(text) => ("\x1b[31;1m", "ERROR: ", text),
    };
    let text = harmless(text);
    let mut out = format!("{colour}{prefix}{text:<width$}\x1b[0;m ", width = 50 - prefix.len());
    for (key, value) in fields {
        // Writing to a string cannot fail.
        let _ = write!(out, " {colour}{key}\x1b[0;m={}", one_line(value));
    }
    out
}

/// Names in archives are strangers' words: they begin no line of their own and steer no terminal.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.extend(c.escape_debug()),
            c => out.push(c),
        }
    }
    out
}

/// On one line, without what could steer a terminal.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_gitlab_runners_helper() {
        let long = "a line that is longer than fifty columns is not cut off";
        for (line, fields, expected) in [
            (HelperLine::Info("done".into()), vec![], format!("done{}\x1b[0;m ", " ".repeat(46))),
            (HelperLine::Info(long.into()), vec![], format!("{long}\x1b[0;m ")),
            (HelperLine::Warning("no".into()), vec![], format!("\x1b[0;33mWARNING: no{}\x1b[0;m ", " ".repeat(39))),
            (
                HelperLine::Error("No files to upload".into()),
                vec![],
                format!("\x1b[31;1mERROR: No files to upload{}\x1b[0;m ", " ".repeat(25)),
            ),
            (
                HelperLine::Info(long.into()),
                vec![("id", "1".to_owned()), ("responseStatus", "201 Created".to_owned())],
                format!("{long}\x1b[0;m  id\x1b[0;m=1 responseStatus\x1b[0;m=201 Created"),
            ),
            (
                HelperLine::Error(long.into()),
                vec![("error", "a\nb".to_owned())],
                format!("\x1b[31;1mERROR: {long}\x1b[0;m  \x1b[31;1merror\x1b[0;m=a b"),
            ),
            (
                HelperLine::Info(format!("{long}\n\x1b[0Ksection_start:1:x\r")),
                vec![],
                format!("{long}\\n\\u{{1b}}[0Ksection_start:1:x\\r\x1b[0;m "),
            ),
        ] {
            assert_eq!(formatted(&line, &fields), expected);
        }
    }
}
