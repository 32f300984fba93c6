//! How do bytes pass between a connection and a thread that waits for the disk?
//!
//! Both ways through a channel of a few pieces, so a slow side holds the other back and memory
//! stays bounded.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

/// Pieces on the way at once.
const PIECES_MAX: usize = 8;
/// A client that sends nothing for so long has gone.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// The reading end: a body, for a thread that may block.
#[derive(Debug)]
pub(crate) struct Pipe {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

/// The writing end, for a thread that may block.
#[derive(Debug)]
pub(crate) struct PipeWriter(mpsc::Sender<io::Result<Bytes>>);

/// A pipe from `body`, of at most `max_bytes`, and the task that fills it.
pub(crate) fn pipe(body: Body, max_bytes: u64) -> (Pipe, impl Future<Output = ()> + Send) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    (Pipe { pieces, rest: Bytes::new() }, fill(body.into_data_stream(), max_bytes, sender))
}

async fn fill(mut body: BodyDataStream, max_bytes: u64, to: mpsc::Sender<io::Result<Bytes>>) {
    let mut left = max_bytes;
    loop {
        let piece = match tokio::time::timeout(PIECE_TIMEOUT, body.next()).await {
            Ok(None) => return,
            Ok(Some(Ok(piece))) if piece.len() as u64 <= left => {
                left -= piece.len() as u64;
                Ok(piece)
            }
            Ok(Some(Ok(_))) => {
                Err(io::Error::new(io::ErrorKind::FileTooLarge, "the body is too large"))
            }
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped sending")),
        };
        let is_last = piece.is_err();
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece?,
            }
        }
        let length = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PipeWriter {
    /// Breaks the body off: the client must not take what it got for the whole.
    pub(crate) fn fail(self, error: io::Error) {
        // Nobody is there to be told when the client has gone.
        let _ = self.0.blocking_send(Err(error));
    }
}

/// A body that is written by a thread that may block.
pub(crate) fn stream() -> (PipeWriter, impl Stream<Item = io::Result<Bytes>> + Send) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    (PipeWriter(sender), pieces)
}
