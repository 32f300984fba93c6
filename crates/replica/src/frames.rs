//! Where does one frame of the watch stream end?

use bytes::{Buf, Bytes, BytesMut};
use nigh_proto::watch::{FRAME_MAX_BYTES, Frame};

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// No line break lies before it.
    searched: usize,
    max_bytes: usize,
}

/// Why a stream is not one of frames. It cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadStream {
    #[error("a frame is longer than {max_bytes} bytes")]
    TooLong { max_bytes: usize },
    #[error("a frame is not of the documented shape")]
    Json(#[from] serde_json::Error),
}

impl Default for Frames {
    fn default() -> Self {
        Self::with_max(FRAME_MAX_BYTES)
    }
}

impl Frames {
    fn with_max(max_bytes: usize) -> Self {
        Frames { buffer: BytesMut::new(), searched: 0, max_bytes }
    }

    /// Takes the next piece of the stream.
    pub(crate) fn push(&mut self, chunk: &Bytes) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame, `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, BadStream> {
        loop {
            let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n')
            else {
                self.searched = self.buffer.len();
                let max_bytes = self.max_bytes;
                let is_too_long = self.buffer.len() > max_bytes;
                return if is_too_long { Err(BadStream::TooLong { max_bytes }) } else { Ok(None) };
            };
            let line = self.buffer.split_to(self.searched + at);
            self.buffer.advance(1);
            self.searched = 0;
            if line.len() > self.max_bytes {
                return Err(BadStream::TooLong { max_bytes: self.max_bytes });
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(serde_json::from_slice(&line)?));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::state::Revision;
    use proptest::prelude::*;

    use super::*;

    fn heartbeat(revision: u64) -> Frame {
        Frame::Heartbeat { revision: Revision(revision) }
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_stream_is_cut(
            revisions in proptest::collection::vec(any::<u64>(), 0..20),
            size in 1usize..40,
        ) {
            let mut stream = Vec::new();
            for &revision in &revisions {
                serde_json::to_writer(&mut stream, &heartbeat(revision)).unwrap();
                stream.extend_from_slice(b"\r\n\n");
            }
            let (mut frames, mut read) = (Frames::default(), Vec::new());
            for chunk in stream.chunks(size) {
                frames.push(&Bytes::copy_from_slice(chunk));
                while let Some(frame) = frames.next().unwrap() {
                    read.push(frame);
                }
            }
            let sent: Vec<_> = revisions.into_iter().map(heartbeat).collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut frames = Frames::with_max(100);
            frames.push(&Bytes::from(bytes));
            while let Ok(Some(_)) = frames.next() {}
            prop_assert!(frames.buffer.len() <= 300);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut frames = Frames::with_max(10);
        frames.push(&Bytes::from_static(b"{\"kind\":\"state\""));
        assert!(matches!(frames.next(), Err(BadStream::TooLong { .. })));
    }

    #[test]
    fn a_line_that_ends_behind_the_bound_is_too_long_all_the_same() {
        let line = serde_json::to_vec(&heartbeat(12345)).unwrap();
        for (max_bytes, is_taken) in [(line.len(), true), (line.len() - 1, false)] {
            let mut frames = Frames::with_max(max_bytes);
            frames.push(&[&line[..], b"\n"].concat().into());
            assert_eq!(frames.next().is_ok(), is_taken, "{max_bytes}");
        }
    }
}
