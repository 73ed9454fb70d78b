//! Sends the trace to GitLab, byte by byte and once, and says how the job ended (gitlab-protocol.md §5, §6).
//!
//! One task is the only writer. It keeps nothing of its own: the log holds all bytes until the end, so that GitLab can
//! have any of them again.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::gitlab::{Backoff, JobClient, JobStatus, Outcome, TraceError, UpdateError};

use super::log::JobLog;

/// What GitLab wants of the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Go on.
    #[default]
    GoOn,
    /// Somebody cancelled it: end it, `after_script` included.
    Cancel,
    /// It is over: stop at once.
    Stop,
}

/// How the end was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// GitLab has the outcome: 200.
    Accepted,
    /// GitLab had ended the job already: 403.
    JobOver,
    /// GitLab did not take it in all the time.
    GaveUp,
}

/// How the trace is sent.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The pause between pieces until GitLab wishes another.
    pub interval: Duration,
    /// GitLab hears of the job at least so often.
    pub keep_alive: Duration,
    /// The longest pause between tries while the end is being said.
    pub longest_pause: Duration,
    /// So long the end is said again and again.
    pub patience: Duration,
    /// The largest piece.
    pub piece: usize,
    /// The job runs with `CI_DEBUG_TRACE`.
    pub debug: bool,
    /// GitLab hears of a silent job every fourth interval (`FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL`).
    pub dynamic_keep_alive: bool,
}

impl Default for TraceSettings {
    fn default() -> Self {
        TraceSettings {
            interval: Duration::from_secs(3),
            keep_alive: Duration::from_secs(30),
            longest_pause: Duration::from_secs(30),
            patience: Duration::from_secs(30 * 60),
            piece: 1 << 20,
            debug: false,
            dynamic_keep_alive: false,
        }
    }
}

/// The task that sends the trace.
pub struct Trace {
    wish: watch::Receiver<Wish>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Sender>,
}

struct Sender {
    log: JobLog,
    gitlab: JobClient,
    settings: TraceSettings,
    interval: Duration,
    piece: usize,
    sent: u64,
    wish: watch::Sender<Wish>,
}

/// What became of one try to send.
enum Sent {
    /// All that there is.
    All,
    /// A piece.
    Piece,
    /// GitLab stands elsewhere; now we know where.
    Moved,
    /// Nothing: later, perhaps not before this time has passed.
    Later(Option<Duration>),
    /// Nothing, and there is no use in trying: the job is over.
    Over,
    /// Nothing: GitLab does not like this piece.
    Refused,
}

impl Trace {
    /// Sends `log`, whose first `sent` bytes GitLab has.
    pub fn start(log: JobLog, gitlab: JobClient, sent: u64, settings: TraceSettings) -> Trace {
        let (wish, wishes) = watch::channel(Wish::GoOn);
        let (stop, stopped) = oneshot::channel();
        let (interval, piece) = (settings.interval, settings.piece);
        let sender = Sender { log, gitlab, settings, interval, piece, sent, wish };
        Trace { wish: wishes, stop, task: tokio::spawn(sender.run(stopped)) }
    }

    /// What GitLab wants, as it is learned from its answers.
    pub fn wish(&self) -> watch::Receiver<Wish> {
        self.wish.clone()
    }

    /// Sends the rest, then says `outcome`; the log must be at its end.
    pub async fn finish(self, outcome: &Outcome) -> Finished {
        drop(self.stop);
        match self.task.await {
            Ok(sender) => sender.finish(outcome).await,
            Err(error) => {
                warn!(%error, "the task that sends the trace broke");
                Finished::GaveUp
            }
        }
    }
}

impl Sender {
    /// Sends what comes until the other end of `stopped` is dropped.
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Self {
        let mut heard = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                _ = &mut stopped => return self,
                () = tokio::time::sleep(pause) => {}
            }
            let mut asked_to_wait = Duration::ZERO;
            let mut rounds = 0;
            loop {
                match self.send_piece().await {
                    Sent::Piece => heard = Instant::now(),
                    Sent::All => break,
                    // A server that moves about for ever does not get a request after the other.
                    Sent::Moved if rounds < 4 => rounds += 1,
                    Sent::Moved | Sent::Refused => break,
                    Sent::Later(asked) => {
                        asked_to_wait = asked.unwrap_or_default();
                        break;
                    }
                    Sent::Over => return self,
                }
            }
            let keep_alive = self.keep_alive();
            if heard.elapsed() >= keep_alive {
                match self.gitlab.keep_alive().await {
                    Ok(answer) => {
                        self.interval = answer.interval.unwrap_or(self.interval);
                        self.heed(&answer.status);
                    }
                    Err(UpdateError::Over { .. }) => {
                        self.wish.send_replace(Wish::Stop);
                        return self;
                    }
                    Err(error) => warn!(%error, "GitLab did not hear that the job goes on"),
                }
                heard = Instant::now();
            }
            let due = self.keep_alive().saturating_sub(heard.elapsed());
            pause = self.interval.min(due).max(asked_to_wait);
        }
    }

    /// GitLab asks for short intervals while somebody looks at the log: who cancels a silent job then should not have to
    /// wait half a minute until it hears of it.
    fn keep_alive(&self) -> Duration {
        if self.settings.dynamic_keep_alive {
            return (self.interval * 4).clamp(self.settings.keep_alive, LONGEST_KEEP_ALIVE);
        }
        let watched = self.interval <= WATCHED_INTERVAL;
        if watched { self.settings.keep_alive.min(WATCHED_KEEP_ALIVE) } else { self.settings.keep_alive }
    }

    async fn finish(mut self, outcome: &Outcome) -> Finished {
        let deadline = Instant::now() + self.settings.patience;
        match tokio::time::timeout_at(deadline, self.say(outcome)).await {
            Ok(finished) => finished,
            Err(_) => {
                warn!("GitLab did not take the outcome in {:?}", self.settings.patience);
                Finished::GaveUp
            }
        }
    }

    async fn say(&mut self, outcome: &Outcome) -> Finished {
        let mut refusals = 0;
        let mut pauses = self.pauses();
        loop {
            if self.send_rest().await == Wish::Stop {
                // The outcome is said nevertheless: only its 403 tells that GitLab ended the job.
                info!("GitLab takes no more of the trace");
            }
            let (crc32, size) = self.log.checksum();
            loop {
                let asked = match self.gitlab.finish(outcome, crc32, size).await {
                    Ok(answer) if answer.done => return Finished::Accepted,
                    // The interval is meant for a log that grows; a task that only waits costs money (up to 60 s here).
                    Ok(answer) => Some(answer.interval.map_or(ASK_AGAIN, |asked| asked.min(ASK_AGAIN))),
                    Err(UpdateError::Over { status: Some(_) }) => return Finished::JobOver,
                    // Without a status it may be a firewall's: whoever settles the task asks GitLab once more.
                    Err(UpdateError::Over { status: None }) if refusals >= REFUSALS => return Finished::GaveUp,
                    Err(UpdateError::ResendTrace) => {
                        self.sent = 0;
                        tokio::time::sleep(pauses.pause(None).unwrap_or(self.settings.longest_pause)).await;
                        break;
                    }
                    Err(UpdateError::Refused(status)) if refusals >= REFUSALS => {
                        warn!("GitLab refuses the outcome with {status}");
                        return Finished::GaveUp;
                    }
                    Err(error) => {
                        refusals += u32::from(error.retry().is_none());
                        warn!(%error, "GitLab did not take the outcome yet");
                        error.retry().flatten()
                    }
                };
                let pause = pauses.pause(asked).unwrap_or(self.settings.longest_pause);
                tokio::time::sleep(pause.min(self.settings.longest_pause)).await;
            }
        }
    }

    /// Sends until GitLab has all, or wants no more.
    async fn send_rest(&mut self) -> Wish {
        let mut pauses = self.pauses();
        let mut refusals = 0;
        loop {
            let asked = match self.send_piece().await {
                Sent::All => return Wish::GoOn,
                Sent::Over => return Wish::Stop,
                Sent::Piece => {
                    pauses = self.pauses();
                    continue;
                }
                // The outcome matters more than a log that GitLab will not have.
                Sent::Refused if refusals >= REFUSALS => return Wish::GoOn,
                Sent::Refused => {
                    refusals += 1;
                    None
                }
                Sent::Moved => None,
                Sent::Later(asked) => asked,
            };
            let pause = pauses.pause(asked).unwrap_or(self.settings.longest_pause);
            tokio::time::sleep(pause.min(self.settings.longest_pause)).await;
        }
    }

    async fn send_piece(&mut self) -> Sent {
        let piece = self.log.piece(self.sent, self.piece);
        if piece.is_empty() {
            return Sent::All;
        }
        match self.gitlab.append_trace(self.sent, piece, self.settings.debug).await {
            Ok(answer) => {
                let before = std::mem::replace(&mut self.sent, answer.stored.min(self.log.len()));
                self.interval = answer.interval.unwrap_or(self.interval);
                self.heed(&answer.status);
                if self.sent > before { Sent::Piece } else { Sent::Moved }
            }
            // Back: GitLab lost bytes. Forward: it has some whose acceptance we did not hear of.
            Err(TraceError::Mismatch { stored }) => {
                info!("GitLab has {stored} bytes of the trace, not {}", self.sent);
                self.sent = stored.min(self.log.len());
                Sent::Moved
            }
            Err(TraceError::Update(UpdateError::Over { status: Some(_) })) => {
                self.wish.send_replace(Wish::Stop);
                Sent::Over
            }
            Err(TraceError::Update(error @ (UpdateError::Refused(_) | UpdateError::Over { status: None }))) => {
                warn!(%error, "a piece of the trace is refused");
                // A proxy on the way may take less than GitLab.
                self.piece = (self.piece / 2).max(SMALLEST_PIECE.min(self.settings.piece));
                Sent::Refused
            }
            Err(TraceError::Update(error)) => {
                warn!(%error, "a piece of the trace was not taken yet");
                Sent::Later(error.retry().flatten())
            }
        }
    }

    fn heed(&self, status: &JobStatus) {
        let wish = match status {
            JobStatus::Running => Wish::GoOn,
            JobStatus::Canceling => Wish::Cancel,
            JobStatus::Over(_) => Wish::Stop,
        };
        // A job that was cancelled does not run again.
        self.wish.send_if_modified(|now| {
            let more = wish > *now;
            *now = wish.max(*now);
            more
        });
    }

    fn pauses(&self) -> Backoff {
        Backoff::new(u32::MAX, self.settings.interval.min(Duration::from_secs(1)), self.settings.longest_pause)
    }
}

/// GitLab asks for 3 s while somebody looks at the log, else for 60 (gitlab-protocol.md §6.1).
const WATCHED_INTERVAL: Duration = Duration::from_secs(3);

/// GitLab hears of a silent job at least so often while somebody looks at its log.
const WATCHED_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The longest that GitLab hears nothing, whatever interval it wants.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(30 * 60);

/// How long to wait before the final update is sent again that GitLab has taken and not yet written.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// So often something is sent again that GitLab refused.
const REFUSALS: u32 = 5;

/// Pieces are not made smaller.
const SMALLEST_PIECE: usize = 16 << 10;
