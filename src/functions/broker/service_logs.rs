//! `POST /service-logs`: reads what one service of the grant's own task has written, while its job runs.

use aws_sdk_cloudwatchlogs::error::{DisplayErrorContext, SdkError};
use aws_sdk_cloudwatchlogs::operation::get_log_events::GetLogEventsError;
use http::StatusCode;

use crate::ledger::wire::{ServiceLogsAnswer, ServiceLogsRequest};
use crate::ledger::{Grant, LaunchState, Phase, Record};

use super::{Broker, BrokerAnswer, answer, refuse, unavailable};

/// In one answer: with the longest lines there are it stays below the 6 MB of a function's answer.
const MOST_LINES: i32 = 500;

impl Broker {
    pub(super) async fn service_logs(&self, body: &[u8]) -> BrokerAnswer {
        let Ok(request) = serde_json::from_slice::<ServiceLogsRequest>(body) else {
            return refuse(StatusCode::BAD_REQUEST, "not a request for a service's log");
        };
        let Some(grant) = self.with_keys(|keys| Grant::read(&keys.grant_key, &request.grant)).await else {
            return refuse(StatusCode::FORBIDDEN, "this is no grant of ours");
        };
        let record = match self.ledger.record(&grant.job).await {
            Ok(Some(stored)) if stored.value.phase == Phase::Opened && stored.value.decision.is_none() => stored.value,
            Ok(_) => return refuse(StatusCode::FORBIDDEN, "the job has ended, and its grant with it"),
            Err(error) => return unavailable(&error),
        };
        let (Some(stream), Some(group)) = (stream(&record, &grant, request.service), &self.fleet.tasks.log_group)
        else {
            return refuse(StatusCode::FORBIDDEN, "the job has no such service, or its log is not kept");
        };
        let events = self.logs.get_log_events().log_group_name(group).log_stream_name(stream);
        let events = events.set_next_token(request.after.clone()).start_from_head(true).limit(MOST_LINES);
        match events.send().await {
            Ok(found) => {
                let lines = found.events.unwrap_or_default().into_iter().filter_map(|event| event.message);
                answer(&ServiceLogsAnswer { lines: lines.collect(), mark: found.next_forward_token.or(request.after) })
            }
            // Until a container has written its first line there is no stream.
            Err(error) if is_missing(&error) => answer(&ServiceLogsAnswer { lines: Vec::new(), mark: request.after }),
            Err(error) => {
                tracing::error!(error = %DisplayErrorContext(error), "CloudWatch refuses a service's log");
                refuse(StatusCode::BAD_GATEWAY, "CloudWatch does not give the service's log")
            }
        }
    }
}

/// `svc-0/svc-0/<task id>` of the grant's own task, if the job has that service and asked for its output.
fn stream(record: &Record, grant: &Grant, service: usize) -> Option<String> {
    record.plan.as_ref().filter(|plan| plan.service_logs && service < plan.services.len())?;
    let attempt = record.attempt.as_ref().filter(|attempt| attempt.number == grant.attempt)?;
    let LaunchState::Started { task } = &attempt.state else { return None };
    let (name, id) = (crate::launch::service_name(service), task.rsplit('/').next()?);
    Some(format!("{name}/{name}/{id}"))
}

fn is_missing(error: &SdkError<GetLogEventsError>) -> bool {
    error.as_service_error().is_some_and(GetLogEventsError::is_resource_not_found_exception)
}
