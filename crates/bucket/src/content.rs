//! What is put: bytes in memory, or a file that is read part by part.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;

/// The content of an object to be.
#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Bytes),
    File { file: Arc<File>, bytes: u64 },
}

impl Content {
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { bytes, .. } => *bytes,
        }
    }

    /// The part of `length` bytes at `offset`; both lie within.
    pub(crate) async fn part(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        match self {
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start + usize::try_from(length).unwrap_or(0).min(bytes.len() - start);
                Ok(bytes.slice(start..end))
            }
            Content::File { file, .. } => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    let mut part = vec![0; usize::try_from(length).unwrap_or(0)];
                    file.read_exact_at(&mut part, offset)?;
                    Ok(Bytes::from(part))
                });
                read.await.map_err(io::Error::other)?
            }
        }
    }
}
