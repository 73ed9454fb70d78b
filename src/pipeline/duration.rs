//! Reads GitLab's human durations: `1h 30m`, `90 minutes`, `3 hrs 4 mins`, `3600`.

use std::time::Duration;

/// The duration that `text` names, or nothing if GitLab would not understand it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut seconds: f64 = 0.0;
    let mut rest = text.trim();
    let mut read_one = false;
    while !rest.is_empty() {
        rest = rest.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        seconds += number * seconds_of(&rest[..letters])?;
        rest = rest[letters..].trim_start();
        read_one = true;
    }
    if !read_one {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "wk" | "week" | "weeks" => 7.0 * 86_400.0,
        "mo" | "mos" | "month" | "months" => 30.0 * 86_400.0,
        "y" | "yr" | "yrs" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_durations_read_as_gitlab_reads_them() {
        let read = ["1h 30m", "90 minutes", "3 hrs and 4 mins", "3600", "1d", "2.5h"];

        let seconds = read.map(|text| duration(text).expect("a duration").as_secs());

        assert_eq!(seconds, [5400, 5400, 11_040, 3600, 86_400, 9000]);
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "soon", "1 fortnight", "h", "-3h", "..h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
