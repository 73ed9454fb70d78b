//! Shows what the services write in the job's log, where the job asks for it (`CI_DEBUG_SERVICES`, runner-behaviour.md §8.2).
//!
//! Fargate has no way to a container's output but its log stream, which the broker reads for us.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::agent::broker_client::{BrokerClient, BrokerError};
use crate::agent::context::Context;
use crate::agent::log::{JobLog, Stream};

use super::Services;

/// Between two questions.
const AGAIN: Duration = Duration::from_secs(3);
/// What was written last needs a moment until it can be read.
const LAST: Duration = Duration::from_millis(500);
/// So many answers for one service before the next is asked.
const PAGES: usize = 10;
/// No job waits longer for its services' last words.
const PATIENCE: Duration = Duration::from_secs(10);

/// Follows the services' output until it is told to end.
pub(in crate::agent) struct ServiceLogs {
    end: oneshot::Sender<()>,
    follower: JoinHandle<()>,
}

impl ServiceLogs {
    /// Begins, where the job asks for it.
    pub(in crate::agent) fn follow(services: &Services, context: &Context) -> Option<ServiceLogs> {
        if services.all.is_empty() || !context.variables.flag("CI_DEBUG_SERVICES", false) {
            return None;
        }
        let streams = services.all.iter().enumerate().map(|(index, service)| Followed {
            index,
            label: format!("[service:{}-{}]", service.facts.image, service.title()),
            mark: None,
        });
        let mut streams: Vec<Followed> = streams.collect();
        let (broker, log) = (context.broker.clone(), context.log.clone());
        let (end, mut ended) = oneshot::channel();
        let follower = tokio::spawn(async move {
            let mut told = false;
            loop {
                let is_last = tokio::time::timeout(AGAIN, &mut ended).await.is_ok();
                if is_last {
                    tokio::time::sleep(LAST).await;
                }
                for stream in &mut streams {
                    let Err(error) = stream.read_on(&broker, &log).await else { continue };
                    if !told {
                        log.runner_warning(&format!("the output of the services cannot be shown: {error}"));
                        told = true;
                    }
                    if let BrokerError::Refused(_) = error {
                        return;
                    }
                }
                if is_last {
                    return;
                }
            }
        });
        Some(ServiceLogs { end, follower })
    }

    /// Shows what is still to come, and ends; at once where nothing may run any more. Nothing is written after it.
    pub(in crate::agent) async fn end(mut self, at_once: bool) {
        // It may have ended itself, with a warning.
        let _ = self.end.send(());
        if at_once || tokio::time::timeout(PATIENCE, &mut self.follower).await.is_err() {
            self.follower.abort();
            let _ = self.follower.await;
        }
    }
}

struct Followed {
    index: usize,
    label: String,
    mark: Option<String>,
}

impl Followed {
    async fn read_on(&mut self, broker: &BrokerClient, log: &JobLog) -> Result<(), BrokerError> {
        // Another service wants to be heard, too.
        for _ in 0..PAGES {
            let answer = broker.service_logs(self.index, self.mark.clone()).await?;
            let stream = Stream::Service(u8::try_from(self.index).unwrap_or(u8::MAX));
            for line in &answer.lines {
                // One line is one line: what a service writes cannot look like ours.
                let line = line.replace(['\n', '\r'], " ");
                log.write(stream, format!("\x1b[0;37m{} {line}\x1b[0;m\n", self.label).as_bytes());
            }
            // A page may be empty with more behind it: at the end the mark stays.
            let is_end = answer.mark == self.mark;
            self.mark = answer.mark;
            if is_end {
                break;
            }
        }
        Ok(())
    }
}
