//! Waits until a service answers on its ports, it ends, or it has had its time.

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);
/// A connection on this machine takes no time.
const CONNECT: Duration = Duration::from_secs(2);

/// Why nobody waits any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// All ports take connections.
    Answers,
    /// Its container has ended with this code.
    Ended(i64),
    /// This port took none in time.
    TooLate(u16),
}

/// Waits for `ports` for `patience` at most. `ended` asks for the exit code; `tell` hears of each port, first that it is
/// dialed, then that it answers.
pub(super) async fn wait<F>(
    ports: &[u16],
    patience: Duration,
    mut ended: impl FnMut() -> F,
    mut tell: impl FnMut(u16, bool),
) -> Ready
where
    F: Future<Output = Option<i64>>,
{
    let deadline = Instant::now() + patience;
    for port in ports {
        tell(*port, false);
        while !answers(*port).await {
            if let Some(code) = ended().await {
                return Ready::Ended(code);
            }
            if Instant::now() >= deadline {
                return Ready::TooLate(*port);
            }
            sleep(AGAIN).await;
        }
        tell(*port, true);
    }
    Ready::Answers
}

async fn answers(port: u16) -> bool {
    matches!(timeout(CONNECT, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_an_answer_an_end_or_the_time() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let closed = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let shut = closed.local_addr().unwrap().port();
        drop(closed);
        for (ports, ends_after, expected) in [
            (vec![open], None, Ready::Answers),
            (vec![open, shut], Some(1), Ready::Ended(3)),
            (vec![shut, open], None, Ready::TooLate(shut)),
            (vec![], None, Ready::Answers),
        ] {
            let asked = Cell::new(0);
            let ended = || {
                asked.set(asked.get() + 1);
                let code = ends_after.filter(|after| asked.get() >= *after).map(|_| 3);
                async move { code }
            };
            let mut told = Vec::new();
            let patience = Duration::from_millis(600);

            let ready = wait(&ports, patience, ended, |port, answers| told.push((port, answers))).await;

            assert_eq!(ready, expected, "{ports:?}");
            if let Some(first) = ports.first() {
                assert_eq!(told[0], (*first, false));
            }
        }
    }
}
