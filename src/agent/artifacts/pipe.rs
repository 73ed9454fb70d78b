//! Lets a thread that packs write into a request's body: bounded, and a body that fails never looks complete.

use std::io::{self, ErrorKind, Write};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Pieces are so large, and so many may wait.
const PIECE: usize = 128 << 10;
const WAITING: usize = 8;

/// The pieces of a body that `pack` writes on a thread of its own, and what `pack` returned in the end.
///
/// When the stream is dropped before its end, `pack` gets a [`BrokenPipe`](ErrorKind::BrokenPipe).
pub(super) fn body<T: Send + 'static, E: Send + 'static>(
    pack: impl FnOnce(&mut BodyWriter) -> Result<T, E> + Send + 'static,
) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, JoinHandle<Result<T, E>>) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let thread = tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter { piece: BytesMut::with_capacity(PIECE), sender, failed: true };
        let packed = pack(&mut writer);
        writer.failed = packed.is_err() || writer.flush().is_err();
        packed
    });
    (futures::stream::poll_fn(move |context| receiver.poll_recv(context)), thread)
}

/// The writing end of a body.
pub(super) struct BodyWriter {
    piece: BytesMut,
    sender: mpsc::Sender<io::Result<Bytes>>,
    /// Also while it is not known: a panic is no end of a body.
    failed: bool,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE)).freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece)).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if self.failed {
            // Nobody may wait for it any more.
            let _ = self.sender.blocking_send(Err(io::Error::other("packing failed")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    async fn whole(pieces: impl Stream<Item = io::Result<Bytes>>) -> io::Result<Vec<u8>> {
        pieces.try_fold(Vec::new(), async |whole, piece| Ok([whole, piece.to_vec()].concat())).await
    }

    #[tokio::test]
    async fn what_is_written_comes_out_in_pieces() {
        let (body, packing) = body(|out| -> io::Result<u8> {
            for _ in 0..1000 {
                out.write_all(&[7; 1000])?;
            }
            Ok(5)
        });
        let bytes = whole(body).await.unwrap();
        assert!(bytes.len() == 1_000_000 && bytes.iter().all(|byte| *byte == 7));
        assert_eq!(packing.await.unwrap().unwrap(), 5);
    }

    #[tokio::test]
    async fn a_body_that_fails_does_not_look_complete() {
        let (failing, _) = body(|out| {
            out.write_all(b"begun").unwrap();
            Err::<(), _>(())
        });
        assert!(whole(failing).await.is_err());
        let (panicking, packing) = body(|_| -> Result<(), ()> { panic!("on purpose") });
        assert!(whole(panicking).await.is_err() && packing.await.is_err());
    }

    #[tokio::test]
    async fn packing_ends_when_nobody_takes_it() {
        let (body, packing) = body(|out| -> io::Result<()> {
            loop {
                out.write_all(&[0; 4096])?;
            }
        });
        drop(body);
        assert_eq!(packing.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
