//! How does an answer's body leave, without ever being whole in memory when it is large?

use std::{
    collections::VecDeque,
    fs::File,
    future::Future,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{access_log::Line, edge::InFlight};

/// What is read from disk at a time.
const CHUNK_BYTES: u64 = 192 << 10;

/// The body of an answer. It says what was sent when it is dropped.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    parts: Parts,
    remaining: u64,
    /// Written to the access log when the answer has left, or was given up.
    line: Option<Box<Line>>,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
enum Parts {
    Empty,
    One(Bytes),
    Many(Streaming),
}

#[derive(Debug)]
struct Streaming {
    parts: VecDeque<Part>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Bytes(Bytes),
    File { file: Arc<File>, range: Range<u64> },
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File { range, .. } => range.end - range.start,
        }
    }
}

impl AnswerBody {
    const fn new(parts: Parts, remaining: u64) -> Self {
        AnswerBody { parts, remaining, line: None, in_flight: None }
    }

    pub(crate) const fn empty() -> Self {
        Self::new(Parts::Empty, 0)
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        let remaining = bytes.len() as u64;
        Self::new(Parts::One(bytes), remaining)
    }

    /// Pieces one after the other.
    pub(crate) fn parts(parts: impl IntoIterator<Item = Part>) -> Self {
        let parts: VecDeque<Part> = parts.into_iter().filter(|part| part.len() > 0).collect();
        let remaining = parts.iter().map(Part::len).sum();
        Self::new(Parts::Many(Streaming { parts, reading: None }), remaining)
    }

    pub(crate) fn log(&mut self, line: Box<Line>) {
        self.line = Some(line);
    }

    /// The request counts as being answered as long as this body is there.
    pub(crate) fn hold(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let next = match &mut this.parts {
            Parts::Empty => None,
            Parts::One(bytes) => Some(Ok(std::mem::take(bytes))),
            Parts::Many(streaming) => ready!(streaming.poll_next(context)),
        };
        match next {
            Some(Ok(bytes)) if !bytes.is_empty() => {
                this.remaining = this.remaining.saturating_sub(bytes.len() as u64);
                if matches!(this.parts, Parts::One(_)) {
                    this.parts = Parts::Empty;
                }
                if let Some(line) = &mut this.line {
                    line.sent(bytes.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Ok(_)) | None => Poll::Ready(None),
            Some(Err(error)) => {
                tracing::error!(%error, "a file could not be read on while it was sent");
                if let Some(line) = &mut this.line {
                    line.failed("disk");
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl Streaming {
    /// The next piece. No thread is held while a client is slow: each read is a job of its own.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.reading.is_none() {
            match self.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(Part::Bytes(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Part::File { file, range }) => self.read(file, range),
            }
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        // The next read begins while this one is being sent.
        if let Some(Part::File { .. }) = self.parts.front()
            && let Some(Part::File { file, range }) = self.parts.pop_front()
        {
            self.read(file, range);
        }
        Poll::Ready(Some(read.unwrap_or_else(|panic| Err(io::Error::other(panic)))))
    }

    fn read(&mut self, file: Arc<File>, range: Range<u64>) {
        let end = range.end.min(range.start + CHUNK_BYTES);
        if end < range.end {
            let rest = Part::File { file: Arc::clone(&file), range: end..range.end };
            self.parts.push_front(rest);
        }
        self.reading = Some(spawn_blocking(move || {
            let mut buffer = BytesMut::zeroed((end - range.start) as usize);
            file.read_exact_at(&mut buffer, range.start)?;
            Ok(buffer.freeze())
        }));
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn parts_of_files_and_bytes_leave_in_order() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        let body = AnswerBody::parts([
            Part::Bytes(Bytes::from_static(b"head")),
            Part::File { file: Arc::clone(&file), range: 5..700_000 },
            Part::Bytes(Bytes::new()),
            Part::File { file, range: 0..3 },
        ]);
        let length = body.size_hint().exact().unwrap();
        let sent = body.collect().await.unwrap().to_bytes();
        let expected = [b"head", &content[5..700_000], &content[..3]].concat();
        assert_eq!(sent.len() as u64, length);
        assert!(sent == expected);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error_and_not_silence() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let body = AnswerBody::parts([Part::File { file, range: 0..10 }]);
        assert!(body.collect().await.is_err());
    }
}
