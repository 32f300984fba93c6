//! What becomes of a body that nobody has read to its end?
//!
//! Whoever is refused is still sending. Were the connection closed on them, their next write would
//! fail before they have read why (RFC 9112, section 9.6). So what is left of a body is taken in and
//! thrown away while the answer goes out, as far as that is little and comes soon.

use std::{
    mem::take,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
};
use futures_util::StreamExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::runtime::Handle;

/// More is not taken in.
const LEFT_MAX_BYTES: usize = 1 << 20;
/// Nor what takes longer.
const LEFT_TIMEOUT: Duration = Duration::from_secs(5);

/// A body whose rest is thrown away when it is dropped.
#[derive(Debug)]
pub(crate) struct Leftover {
    body: Body,
    is_over: bool,
}

impl Leftover {
    /// A request with such a body. One whose sender waits to be asked for it (`Expect`) is left
    /// alone: to read from it would be to ask.
    pub(crate) fn of(request: Request) -> Request {
        if request.headers().contains_key(header::EXPECT) {
            return request;
        }
        request.map(|body| {
            let is_over = body.is_end_stream();
            Body::new(Self { body, is_over })
        })
    }
}

impl HttpBody for Leftover {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.is_over = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.is_over || self.body.is_end_stream() {
            return;
        }
        // Without a runtime nobody is there who could still be sending.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LEFT_TIMEOUT, throw_away(take(&mut self.body))));
        }
    }
}

async fn throw_away(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len();
        if bytes > LEFT_MAX_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::*;

    /// A body of so many pieces of 64 KiB, and how many of them were taken.
    fn counted(pieces: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let pieces = stream::iter(0..pieces).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>(Bytes::from_static(&[0; 64 << 10]))
        });
        (Body::from_stream(pieces), taken)
    }

    #[tokio::test]
    async fn a_little_that_is_left_is_taken_in_and_much_is_not() {
        for (pieces, expected) in [(0, 0), (3, 3), (16, 16), (100, 17)] {
            let (body, taken) = counted(pieces);
            drop(Leftover::of(Request::new(body)));
            // The runtime has one thread: what was spawned runs to its end before this goes on.
            tokio::task::yield_now().await;
            assert_eq!(taken.load(Ordering::Relaxed), expected, "{pieces}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_for_what_is_not_wanted() {
        let (body, taken) = counted(3);
        let mut request = Request::new(body);
        let expected = HeaderValue::from_static("100-continue");
        request.headers_mut().insert(header::EXPECT, expected);
        drop(Leftover::of(request));
        tokio::task::yield_now().await;
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_was_read_is_not_read_again() {
        let (body, taken) = counted(2);
        let all = axum::body::to_bytes(Leftover::of(Request::new(body)).into_body(), usize::MAX)
            .await
            .unwrap();
        assert_eq!((all.len(), taken.load(Ordering::Relaxed)), (128 << 10, 2));
    }
}
