//! Owns how often a stage is tried, and the pauses between the tries (runner-behaviour.md §1.2).

use std::time::Duration;

use crate::gitlab::Backoff;

use super::context::Context;

/// As many attempts, from 1 to 10, as the job's variable `name` wants; what is no number is told, and is one.
pub(super) fn attempts(context: &Context, name: &str) -> Backoff {
    let text = context.environment.get(name).map(|text| text.trim()).unwrap_or_default();
    let attempts = match text.parse::<i64>() {
        Ok(attempts) => u32::try_from(attempts.clamp(1, 10)).unwrap_or(1),
        Err(_) if text.is_empty() => 1,
        Err(_) => {
            context.log.warning(&format!("`{name}` is `{text}`, which is no number: there is one attempt"));
            1
        }
    };
    match context.variables.flag("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", true) {
        true => Backoff::new(attempts, Duration::from_secs(5), Duration::from_secs(300)),
        false => Backoff::new(attempts, Duration::from_secs(1), Duration::from_secs(5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testing::{Job, context};
    use serde_json::json;

    #[test]
    fn attempts_are_between_one_and_ten() {
        for (text, expected, warns) in
            [("", 1, false), ("0", 1, false), ("-3", 1, false), ("3", 3, false), ("99", 10, false), ("x", 1, true)]
        {
            let context = context(Job::new(json!({})).variable("TRIES", text));
            let mut pauses = attempts(&context, "TRIES");
            assert_eq!(std::iter::from_fn(|| pauses.pause(None)).count() + 1, expected, "{text}");
            assert_eq!(!context.log.is_empty(), warns, "{text}");
        }
    }

    #[test]
    fn pauses_are_short_where_the_flag_is_off() {
        for (flag, longest) in [("false", 1), ("true", 5)] {
            let job = Job::new(json!({})).variable("TRIES", "2");
            let context = context(job.variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", flag));
            assert!(attempts(&context, "TRIES").pause(None).unwrap() <= Duration::from_secs(longest));
        }
    }
}
