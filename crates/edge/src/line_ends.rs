//! Do the lines of a request end as they must?
//!
//! hyper takes a lone LF for the end of a line, as RFC 9112, section 2.2, allows. A proxy in front
//! of this edge may not, and what one of them sees as a field the other may see as a request. So
//! such a connection is noted, and refused by `service`. All bytes are looked at, those of bodies
//! too: an edge has no use for a body, so it does no harm to refuse one with such a line.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::conduct::Conduct;

/// A stream of HTTP/1.1 that is watched for lone LFs.
#[derive(Debug)]
pub(crate) struct LineEnds<S> {
    stream: S,
    last: u8,
    conduct: Arc<Conduct>,
    is_watched: bool,
}

impl<S> LineEnds<S> {
    /// `is_watched` is false for HTTP/2, which has no lines.
    pub(crate) fn new(stream: S, is_watched: bool, conduct: Arc<Conduct>) -> Self {
        LineEnds { stream, last: 0, conduct, is_watched }
    }
}

/// Whether an LF in `bytes`, which follow `last`, comes after anything but a CR. Written so that it
/// compiles to vector instructions: every request is looked at.
fn has_bare_lf(last: u8, bytes: &[u8]) -> bool {
    let Some(&first) = bytes.first() else { return false };
    let is_bare = |before: u8, byte: u8| (byte == b'\n') & (before != b'\r');
    let pairs = bytes.iter().zip(&bytes[1..]);
    pairs.fold(is_bare(last, first), |any, (&before, &byte)| any | is_bare(before, byte))
}

impl<S: AsyncRead + Unpin> AsyncRead for LineEnds<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.is_watched {
            let bytes = &buffer.filled()[before..];
            if has_bare_lf(self.last, bytes) {
                self.conduct.note_bare_lf();
            }
            self.last = bytes.last().copied().unwrap_or(self.last);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LineEnds<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    proptest! {
        #[test]
        fn it_is_found_however_the_bytes_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..40),
            cut in 0..40usize,
        ) {
            let expected = (0..bytes.len())
                .any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            let last = left.last().copied().unwrap_or_default();
            prop_assert_eq!(has_bare_lf(0, left) | has_bare_lf(last, right), expected);
        }
    }

    #[tokio::test]
    async fn what_is_watched_passes_unchanged() {
        for (bytes, is_watched, is_noted) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], true, false),
            (b"GET / HTTP/1.1\n\r\n", true, true),
            (b"GET / HTTP/1.1\n\r\n", false, false),
        ] {
            let conduct = Arc::new(Conduct::default());
            let mut passed = Vec::new();
            let mut stream = LineEnds::new(bytes, is_watched, Arc::clone(&conduct));
            while stream.read_buf(&mut passed).await.unwrap() > 0 {}
            assert_eq!((&passed[..], conduct.has_bare_lf()), (bytes, is_noted));
        }
    }
}
