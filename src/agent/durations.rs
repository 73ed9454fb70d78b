//! Reads and writes durations as Go does: `1h30m`, `1.5s` (runner-behaviour.md §1.4).

use std::time::Duration;

/// What a person wrote as a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoDuration {
    /// At least zero.
    Of(Duration),
    /// Less than zero, which no timeout can be.
    Negative,
}

/// Reads `text` as Go's `time.ParseDuration`; `None` if it is no duration.
pub(super) fn parse_duration(text: &str) -> Option<GoDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(GoDuration::Of(Duration::ZERO));
    }
    let mut seconds = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 =
            rest[..digits].parse().ok().filter(|_| rest[..digits].contains(|c: char| c.is_ascii_digit()))?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - digits);
        seconds += number
            * match &rest[digits..digits + unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[digits + unit..];
    }
    // Go's durations end at 292 years.
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds < 9.2e9)?;
    Some(if negative && !duration.is_zero() { GoDuration::Negative } else { GoDuration::Of(duration) })
}

/// Writes whole seconds as Go does: `1h0m0s`, `2m5s`, `10s`.
pub(super) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [
            ("90m", 5400.0),
            ("1h30m", 5400.0),
            ("10s", 10.0),
            ("1.5s", 1.5),
            ("0", 0.0),
            ("+2s", 2.0),
            ("500ms", 0.5),
            (".5h", 1800.0),
        ] {
            assert_eq!(parse_duration(text), Some(GoDuration::Of(Duration::from_secs_f64(seconds))), "{text}");
        }
        assert_eq!(parse_duration("-5m"), Some(GoDuration::Negative));
        for text in ["", "5", "h", "5x", "1h30", "ten", "-", ".s", "1..5s", "1e3s", "99999999999h", "5 m"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (seconds, text) in [(3600, "1h0m0s"), (125, "2m5s"), (10, "10s"), (0, "0s"), (3661, "1h1m1s"), (60, "1m0s")]
        {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }
}
