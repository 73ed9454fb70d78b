//! Hears of Ctrl-C, and of the signals by which a terminal or a supervisor asks to end.

use std::future::Future;
use std::io;

use anyhow::bail;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a run.
pub(super) struct Interrupts([Signal; 3]);

impl Interrupts {
    /// From now on these signals no longer end the process at once.
    pub(super) fn listen() -> io::Result<Interrupts> {
        let [interrupt, terminate, hang_up] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Interrupts([interrupt?, terminate?, hang_up?]))
    }

    /// Returns when the next one has come.
    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hang_up] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    }

    /// What comes of `work`, unless a signal comes first: then it is dropped, with all that it has made.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            () = self.next() => bail!("interrupted"),
            done = work => done,
        }
    }
}
