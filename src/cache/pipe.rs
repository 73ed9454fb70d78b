//! Connects blocking code with async code: bytes in order, bounded memory, and an end that cannot be mistaken.
//!
//! Whoever drops one side without saying so breaks the pipe; the other side never takes that for the end.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

/// How many pieces wait between both sides.
const WAITING: usize = 8;
/// How large the pieces of a [`PipeWriter`] are.
const PIECE: usize = 256 << 10;

enum Piece {
    Bytes(Bytes),
    End,
}

/// From async code to a blocking reader.
pub fn pipe_to_reader() -> (PipeSender, PipeReader) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (PipeSender { sender }, PipeReader { receiver, current: Bytes::new(), ended: false })
}

/// From a blocking writer to async code.
pub fn pipe_from_writer() -> (PipeWriter, PipeReceiver) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (PipeWriter { sender, buffer: BytesMut::new() }, PipeReceiver { receiver, ended: false })
}

/// The async side that gives.
pub struct PipeSender {
    sender: mpsc::Sender<Piece>,
}

impl PipeSender {
    /// Waits until there is room; `false` when the reader is gone.
    pub async fn send(&self, bytes: Bytes) -> bool {
        bytes.is_empty() || self.sender.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// Says that this is all.
    pub async fn finish(self) {
        // A reader that is gone needs no end.
        drop(self.sender.send(Piece::End).await);
    }
}

/// The blocking side that takes.
pub struct PipeReader {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(broken()),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The blocking side that gives.
pub struct PipeWriter {
    sender: mpsc::Sender<Piece>,
    buffer: BytesMut,
}

impl PipeWriter {
    /// Says that this is all.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.sender.blocking_send(Piece::End).map_err(|_| broken())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.reserve(PIECE);
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.sender.blocking_send(Piece::Bytes(piece)).map_err(|_| broken())
    }
}

/// The async side that takes.
pub struct PipeReceiver {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl PipeReceiver {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the writer went away without an end.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.receiver.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(broken()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other side went away")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::spawn_blocking;

    #[tokio::test]
    async fn what_goes_in_comes_out_in_order() {
        let (sender, mut reader) = pipe_to_reader();
        let (mut writer, mut receiver) = pipe_from_writer();
        let copied = spawn_blocking(move || {
            io::copy(&mut reader, &mut writer).unwrap();
            writer.finish().unwrap();
        });
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
        let parts: Vec<Bytes> = sent.chunks(77_777).map(Bytes::copy_from_slice).collect();
        let sending = tokio::spawn(async move {
            for part in parts {
                assert!(sender.send(part).await);
            }
            sender.finish().await;
        });
        let mut received = Vec::new();
        while let Some(piece) = receiver.next().await.unwrap() {
            assert!(piece.len() <= PIECE);
            received.extend_from_slice(&piece);
        }
        assert!(received == sent);
        assert!(receiver.next().await.unwrap().is_none());
        sending.await.unwrap();
        copied.await.unwrap();
    }

    #[tokio::test]
    async fn a_side_that_goes_away_is_not_taken_for_the_end() {
        let (sender, mut reader) = pipe_to_reader();
        let read = spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        sender.send(Bytes::from_static(b"half")).await;
        drop(sender);
        assert!(read.await.unwrap().is_err());

        let (mut writer, mut receiver) = pipe_from_writer();
        let written = spawn_blocking(move || writer.write_all(b"half").and_then(|()| writer.flush()));
        assert_eq!(receiver.next().await.unwrap().unwrap(), "half");
        assert!(receiver.next().await.is_err());
        written.await.unwrap().unwrap();

        let (mut writer, receiver) = pipe_from_writer();
        drop(receiver);
        assert!(spawn_blocking(move || writer.write_all(&[0; PIECE * 2])).await.unwrap().is_err());
        let (sender, reader) = pipe_to_reader();
        drop(reader);
        assert!(!sender.send(Bytes::from_static(b"x")).await);
    }
}
