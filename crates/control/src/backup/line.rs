//! What is on each line of a backup?

use std::io::{self, BufRead, Read, Write};

use nigh_proto::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::store::Cells;

/// The first field of the first line.
pub(super) const FORMAT: &str = "nigh-backup";
pub(super) const VERSION: u32 = 1;
/// The longest line: a row with a certificate for many names is far shorter.
const LINE_MAX_BYTES: u64 = 16 << 20;

/// One line. A pack or a blob is followed by its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Head(Head),
    Row {
        table: String,
        cells: Cells,
    },
    /// As [`nigh_proto::pack`] says.
    Pack {
        bytes: u64,
    },
    /// The raw bytes of a large blob.
    Blob {
        digest: Digest,
        bytes: u64,
    },
    End(End),
}

/// What the file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: String,
    pub(super) version: u32,
    /// The version of nigh that wrote it.
    pub(super) nigh: String,
    pub(super) created_at: Timestamp,
    pub(super) has_blobs: bool,
}

/// What was in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) rows: u64,
    pub(super) blobs: u64,
    /// BLAKE3 of every byte before this line.
    pub(super) digest: Digest,
}

/// Hashes what passes, on its way in or out.
#[derive(Debug)]
pub(super) struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    /// Of what has passed so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.finalize().into()
    }

    pub(super) fn into_inner(self) -> T {
        self.inner
    }

    /// The same bytes go on elsewhere.
    pub(super) fn replace<U>(self, with: impl FnOnce(T) -> U) -> Hashing<U> {
        Hashing { inner: with(self.inner), hasher: self.hasher }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Hashing<W> {
    pub(super) fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.write_all(&text)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<R: BufRead> Hashing<R> {
    /// The next line, and the digest of everything before it. `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> io::Result<Option<(Line, Digest)>> {
        let before = self.digest();
        let mut text = Vec::new();
        (&mut self.inner).take(LINE_MAX_BYTES).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        self.hasher.update(&text);
        if text.pop() != Some(b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last line is cut off"));
        }
        let line = serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((line, before)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_lines_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Hashing::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next_line() {}
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written_with_the_digest_before_them() {
        let mut written = Hashing::new(Vec::new());
        written.line(&Line::Pack { bytes: 3 }).unwrap();
        written.write_all(b"abc").unwrap();
        let digest = written.digest();
        let end = Line::End(End { rows: 0, blobs: 1, digest });
        written.line(&end).unwrap();
        let bytes = written.into_inner();

        let mut read = Hashing::new(&bytes[..]);
        assert_eq!(read.next_line().unwrap().unwrap().0, Line::Pack { bytes: 3 });
        let mut body = [0; 3];
        read.read_exact(&mut body).unwrap();
        assert_eq!(read.next_line().unwrap().unwrap(), (end, digest));
        assert_eq!(read.next_line().unwrap(), None);
        assert!(Hashing::new(&bytes[..bytes.len() - 1]).next_line().is_ok());
    }
}
