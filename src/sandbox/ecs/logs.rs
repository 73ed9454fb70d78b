//! Owns `GetLogEvents` of CloudWatch Logs: what containers with the awslogs driver wrote.
//!
//! A container writes straight into a file, so all of its lines carry the time of its start.

use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};

use super::json::{number, text};
use super::refusal::Refusal;
use super::state::Shared;
use super::task::Task;

/// Events in one answer.
const MOST_EVENTS: usize = 10_000;
/// What one answer may hold, and how much of it one event takes beside its text.
const MOST_BYTES: usize = 1024 * 1024;
const EVENT_BYTES: usize = 26;

/// `GetLogEvents`: forward pages from the head, or the latest events.
pub(super) fn get_log_events(shared: &Arc<Shared>, request: &Value) -> Result<Value, Refusal> {
    let stream = text(request, "logStreamName").unwrap_or_default();
    let group = text(request, "logGroupName").or(text(request, "logGroupIdentifier")).unwrap_or_default();
    let (content, started) = find(shared, group, stream)
        .ok_or_else(|| Refusal::bad_request("ResourceNotFoundException", "The specified log stream does not exist."))?;
    let limit = number(request, "limit").unwrap_or(10_000);
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=MOST_EVENTS).contains(limit));
    let limit = limit.ok_or_else(|| Refusal::parameter("limit must be 1 to 10000."))?;
    let lines: Vec<&str> = content.lines().collect();
    let (from, to) = range(request, &lines, limit)?;
    let events =
        lines[from..to].iter().map(|line| json!({"timestamp": started, "ingestionTime": started, "message": line}));
    Ok(json!({
        "events": events.collect::<Vec<_>>(),
        "nextForwardToken": format!("f/{to:056}"), "nextBackwardToken": format!("b/{from:056}"),
    }))
}

fn range(request: &Value, lines: &[&str], limit: usize) -> Result<(usize, usize), Refusal> {
    let from_head = request.get("startFromHead").and_then(Value::as_bool).unwrap_or(false);
    let token = text(request, "nextToken").map(|token| {
        let (direction, at) = token.split_once('/')?;
        Some((direction, at.parse::<usize>().ok()?.min(lines.len())))
    });
    let forward = |from: usize| (from, from + fitting(lines[from..].iter(), limit));
    let backward = |to: usize| (to - fitting(lines[..to].iter().rev(), limit), to);
    match token {
        None if from_head => Ok(forward(0)),
        None => Ok(backward(lines.len())),
        Some(Some(("f", from))) => Ok(forward(from)),
        Some(Some(("b", to))) => Ok(backward(to)),
        Some(_) => Err(Refusal::parameter("The specified nextToken is invalid.")),
    }
}

fn fitting<'a>(lines: impl Iterator<Item = &'a &'a str>, limit: usize) -> usize {
    let mut bytes = 0;
    let fits = |line: &&&str| {
        bytes += line.len() + EVENT_BYTES;
        bytes <= MOST_BYTES
    };
    lines.take(limit).take_while(fits).count()
}

/// The text of the stream `prefix/container/task id`, and when its container started.
fn find(shared: &Shared, group: &str, stream: &str) -> Option<(String, i64)> {
    let (rest, task_id) = stream.rsplit_once('/')?;
    let (prefix, name) = rest.rsplit_once('/')?;
    let logs_here = |task: &Task| {
        let log = &task.container_definition(name).0["logConfiguration"];
        let option = |name| text(&log["options"], name);
        let here = text(log, "logDriver") == Some("awslogs")
            && option("awslogs-group") == Some(group)
            && option("awslogs-stream-prefix") == Some(prefix);
        let container = task.containers.iter().find(|container| container.name == name)?;
        container
            .started_at
            .filter(|_| here && !container.loses_log)
            .map(|started| (started, container.exit_code.is_some()))
    };
    let (started, has_ended) = shared.look(task_id, logs_here).flatten()?;
    let mut content = fs::read(shared.host.rooms().log_file(task_id, name)).unwrap_or_default();
    if !has_ended {
        // A line that is still being written is no event yet.
        content.truncate(content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    }
    Some((String::from_utf8_lossy(&content).into_owned(), started.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_walk_forward_and_back_through_a_stream() {
        let lines = ["1", "2", "3"];
        let range = |request: Value, limit| range(&request, &lines, limit).unwrap();

        assert_eq!(range(json!({"startFromHead": true}), 2), (0, 2));
        assert_eq!(range(json!({"nextToken": "f/2"}), 2), (2, 3));
        assert_eq!(range(json!({"nextToken": "f/3"}), 2), (3, 3));
        assert_eq!(range(json!({}), 2), (1, 3));
        assert_eq!(range(json!({"nextToken": "b/1"}), 2), (0, 1));
        assert_eq!(range(json!({"nextToken": "f/99999"}), 2), (3, 3));
    }
}
