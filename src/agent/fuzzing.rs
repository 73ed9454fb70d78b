//! What fuzz targets need and nobody else: the helper's ear for whoever speaks in build's place.

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::frames::Script;
use super::link::Link;
use super::log::JobLog;

/// Lets the helper hear `bytes` and then the end, as it runs two scripts; returns what it wrote to the job's log.
pub async fn hear(bytes: &[u8]) -> Vec<u8> {
    let log = JobLog::default();
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return Vec::new() };
    let listening = async {
        let Ok(mut link) = Link::greeted(ours).await else { return };
        for _ in 0..2 {
            if link.run(&Script::default(), &log, std::future::pending::<()>()).await.is_err() {
                return;
            }
        }
        link.bye().await;
    };
    let speaking = async {
        // Whoever is not listened to any more has said enough.
        let _ = theirs.write_all(bytes).await;
        let _ = theirs.shutdown().await;
    };
    tokio::join!(listening, speaking);
    log.contents().to_vec()
}
