//! Where does one line of a stream end?

use bytes::{Buf, Bytes, BytesMut};

/// Cuts chunks of bytes into lines, holding at most one line.
#[derive(Debug)]
pub(crate) struct Lines {
    held: BytesMut,
    max_bytes: usize,
    /// Bytes of `held` that are known to hold no line break.
    searched: usize,
}

/// A line is longer than it may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {max_bytes} bytes")]
pub(crate) struct LineTooLong {
    max_bytes: usize,
}

impl Lines {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { held: BytesMut::new(), max_bytes, searched: 0 }
    }

    /// Takes the next chunk in.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), LineTooLong> {
        if self.held.len() + chunk.len() > self.max_bytes + chunk.len().min(64 << 10) {
            return Err(LineTooLong { max_bytes: self.max_bytes });
        }
        self.held.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole line, without its break.
    pub(crate) fn next_line(&mut self) -> Option<Bytes> {
        let found = self.held[self.searched..].iter().position(|&byte| byte == b'\n');
        let Some(offset) = found else {
            self.searched = self.held.len();
            return None;
        };
        let line = self.held.split_to(self.searched + offset).freeze();
        self.held.advance(1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::new(10);
        assert_eq!(lines.push(b"0123456789"), Ok(()));
        assert!((0..100_000).any(|_| lines.push(b"0123456789").is_err()));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_are_cut(
            text in proptest::collection::vec("[a-c]{0,5}", 0..10),
            cuts in proptest::collection::vec(1usize..7, 1..20),
        ) {
            let stream: Vec<u8> = text.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
            let mut lines = Lines::new(100);
            let mut found = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                lines.push(chunk).unwrap();
                while let Some(line) = lines.next_line() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
                rest = after;
            }
            prop_assert_eq!(found, text);
        }
    }
}
