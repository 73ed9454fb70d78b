//! Owns how often a stage is tried, and the pauses between the tries (runner-behaviour.md §1.2).

use std::time::Duration;

use crate::gitlab::{Backoff, FailureReason};

use super::context::{Context, StageError};

/// Runs `stage` with the number of the attempt, from 1 on, until it succeeds or the job's variable `name` allows no more.
///
/// What the job's author has to mend is not tried again.
pub(super) async fn attempt(
    context: &Context,
    name: &str,
    stage: impl AsyncFn(u32) -> Result<(), StageError>,
) -> Result<(), StageError> {
    attempt_with(context, attempts(context, name), stage).await
}

async fn attempt_with(
    context: &Context,
    mut pauses: Backoff,
    stage: impl AsyncFn(u32) -> Result<(), StageError>,
) -> Result<(), StageError> {
    for number in 1.. {
        let Err(error) = stage(number).await else { break };
        if error.reason == FailureReason::RunnerConfigurationError {
            return Err(error);
        }
        let Some(pause) = pauses.pause(None) else { return Err(error) };
        context.log.runner_warning(&format!("{error}. Retrying..."));
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// As many attempts, from 1 to 10, as the job's variable `name` wants; what is no number is one.
pub(super) fn attempts(context: &Context, name: &str) -> Backoff {
    let wanted = context.variables.get(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(1);
    let attempts = u32::try_from(wanted.clamp(1, 10)).unwrap_or(1);
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
        for (text, expected) in [("", 1), ("0", 1), ("-3", 1), ("3", 3), ("99", 10), ("x", 1), ("$FOUR", 4)] {
            let context = context(Job::new(json!({})).variable("TRIES", text).variable("FOUR", "4"));
            let mut pauses = attempts(&context, "TRIES");
            assert_eq!(std::iter::from_fn(|| pauses.pause(None)).count() + 1, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_stage_is_tried_again_unless_its_author_has_to_mend_it() {
        use FailureReason::{RunnerConfigurationError, RunnerSystemFailure};
        for (tries, fails, reason, numbers, ends_well) in [
            (3, 1, RunnerSystemFailure, 2, true),
            (3, 9, RunnerSystemFailure, 3, false),
            (1, 9, RunnerSystemFailure, 1, false),
            (3, 9, RunnerConfigurationError, 1, false),
        ] {
            let context = context(Job::new(json!({})));
            let pauses = Backoff::new(tries, Duration::from_millis(1), Duration::from_millis(1));
            let seen = std::sync::Mutex::new(Vec::new());
            let stage = async |number| {
                seen.lock().unwrap().push(number);
                if number <= fails { Err(StageError::new(reason, "no luck")) } else { Ok(()) }
            };
            let result = attempt_with(&context, pauses, stage).await;
            let seen = seen.into_inner().unwrap();
            assert_eq!((result.is_ok(), &seen), (ends_well, &(1..=numbers).collect::<Vec<u32>>()), "{tries} {fails}");
            let log = String::from_utf8(context.log.contents().to_vec()).unwrap();
            let line = "\x1b[0K\x1b[0;33mWARNING: no luck. Retrying...\x1b[0;m\n";
            assert_eq!(log, line.repeat(seen.len() - 1));
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
