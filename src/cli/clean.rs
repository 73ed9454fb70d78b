//! Takes out of foreign text whatever steers a terminal.

/// What stays of control sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing.
    Nothing,
    /// Colours and weights (SGR), ended at the end of the line.
    Colours,
}

/// A longer colour sequence is no colour.
const LONGEST_COLOUR: usize = 40;
/// Terminals stop at every eighth column.
const TAB: usize = 8;

/// One line of foreign text without control characters and sequences; the colours stay if `keep` says so.
pub(super) fn clean(line: &str, keep: Keep) -> String {
    let (mut out, mut column, mut coloured) = (String::with_capacity(line.len()), 0, false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                let colour = sequence(&mut rest);
                if let Some(colour) = colour.filter(|_| keep == Keep::Colours) {
                    coloured = true;
                    out.push_str(&colour);
                }
            }
            '\u{9b}' => drop(parameters(&mut rest)),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut rest),
            '\t' => {
                let spaces = TAB - column % TAB;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c if c.is_control() || turns(c) => {}
            c => {
                column += 1;
                out.push(c);
            }
        }
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    out
}

/// One line of foreign text without anything that steers a terminal.
pub(super) fn plain(line: &str) -> String {
    clean(line, Keep::Nothing)
}

/// Characters that turn the direction of what follows, and so show other words than were written.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Reads what follows an ESC; gives it back if it is a colour.
fn sequence(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut ahead = rest.clone();
    match ahead.next()? {
        '[' => {
            *rest = ahead;
            let inner = parameters(rest)?;
            let colour = inner.strip_suffix('m')?;
            let is_colour =
                colour.len() <= LONGEST_COLOUR && colour.bytes().all(|b| b.is_ascii_digit() || b";:".contains(&b));
            is_colour.then(|| format!("\x1b[{inner}"))
        }
        ']' | 'P' | 'X' | '^' | '_' => {
            *rest = ahead;
            skip_string(rest);
            None
        }
        ' '..='/' => {
            // Intermediate characters, then one that ends the sequence.
            rest.by_ref().find(|c| !(' '..='/').contains(c));
            None
        }
        '0'..='~' => {
            *rest = ahead;
            None
        }
        _ => None,
    }
}

/// Reads parameters and the character that ends them; `None` for what is no whole sequence.
fn parameters(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut inner = String::new();
    loop {
        let mut ahead = rest.clone();
        let c = ahead.next()?;
        if !(' '..='~').contains(&c) {
            return None;
        }
        *rest = ahead;
        inner.push(c);
        if ('@'..='~').contains(&c) {
            return Some(inner);
        }
    }
}

/// Skips a string for the terminal up to its end: BEL, ST, or the line's.
fn skip_string(rest: &mut std::str::Chars<'_>) {
    let mut escaped = false;
    for c in rest.by_ref() {
        if matches!(c, '\x07' | '\u{9c}') || (escaped && c == '\\') {
            return;
        }
        escaped = c == '\x1b';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_shown_without_what_steers_a_terminal() {
        for (line, expected) in [
            ("\x1b[0K\x1b[32;1m$ echo hi\x1b[0;m\r", "$ echo hi"),
            ("a\x1b", "a"),
            ("a\x1b[", "a"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\text", "text"),
            ("\x1bPq#0\x1b\\text", "text"),
            ("\x1b]0;never ended", ""),
            ("\u{9b}2Jtext\u{9d}0;t\u{9c}!", "text!"),
            ("\x1b(Btext\x1bc\x08\x07", "text"),
            ("a\tb", "a       b"),
            ("\u{202e}evil", "evil"),
            ("grün ✓", "grün ✓"),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }

    #[test]
    fn colours_stay_where_they_are_wanted_and_end_with_the_line() {
        assert_eq!(clean("\x1b[31mred\x1b[2J", Keep::Colours), "\x1b[31mred\x1b[0m");
        assert_eq!(clean("\x1b[38:2::1:2:3mx", Keep::Colours), "\x1b[38:2::1:2:3mx\x1b[0m");
        assert_eq!(clean("\x1b[?25lx\x1b[>4;2my", Keep::Colours), "xy");
        assert_eq!(clean("plain", Keep::Colours), "plain");
    }

    proptest! {
        #[test]
        fn no_control_character_gets_through(line in "(\\x1b|\\[|\\]|m|[0-9;]|\\PC|\\pC){0,60}") {
            prop_assert!(!plain(&line).chars().any(char::is_control));
            let coloured = clean(&line, Keep::Colours);
            for part in coloured.split('\x1b').skip(1) {
                let end = part.find('m').expect("every sequence that is left is a colour");
                prop_assert!(part[1..end].bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':'), "{part:?}");
            }
            prop_assert!(!coloured.chars().any(|c| c.is_control() && c != '\x1b'));
        }
    }
}
