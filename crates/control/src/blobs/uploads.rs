//! Where does the next part of a large blob go on?
//!
//! Opening a partial blob reads what is there again, to hash it. So between its parts an upload
//! stays open here; one that is not used for a while, or makes room for others, is closed and its
//! bytes stay on disk.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nigh_core::blob::{InsertError, Partial, Store};
use nigh_proto::Digest;

use super::{BlobError, Pipe};

/// Uploads that stay open between their parts.
const OPEN_MAX: usize = 32;
const IDLE_MAX: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 256 << 10;

/// Large blobs that are being uploaded.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<HashMap<Digest, Open>>);

#[derive(Debug)]
struct Open {
    partial: Partial,
    used_at: Instant,
}

/// What a part did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartOutcome {
    /// The blob is whole, verified and durable.
    Whole,
    /// The next part begins here.
    More { offset: u64 },
}

/// Why a part was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error("the upload stands at byte {offset}")]
    Offset { offset: u64 },
    #[error("this blob is being uploaded with another length, {size_bytes}")]
    Length { size_bytes: u64 },
    #[error("the part broke off")]
    Receive(#[source] io::Error),
    #[error(transparent)]
    Insert(#[from] InsertError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Uploads {
    /// Appends the part that begins at `offset`. What arrived before an error stays.
    pub(crate) fn part(
        &self,
        store: &Store,
        digest: Digest,
        size_bytes: u64,
        offset: u64,
        mut body: Pipe,
        now: Instant,
    ) -> Result<PartOutcome, PartError> {
        let mut partial = match self.take(&digest, now) {
            Some(partial) => partial,
            None => store.begin(digest, size_bytes)?,
        };
        if partial.size_bytes() != size_bytes {
            let size_bytes = partial.size_bytes();
            self.put(digest, partial, now);
            return Err(PartError::Length { size_bytes });
        }
        if store.contains(&digest) {
            return Ok(PartOutcome::Whole);
        }
        if partial.offset() != offset {
            let offset = partial.offset();
            self.put(digest, partial, now);
            return Err(PartError::Offset { offset });
        }
        let received = append(&mut partial, &mut body);
        if received.is_ok() && partial.offset() == size_bytes {
            partial.finish()?;
            return Ok(PartOutcome::Whole);
        }
        let offset = partial.offset();
        self.put(digest, partial, now);
        received.map(|()| PartOutcome::More { offset })
    }

    /// Closes what was not used for a while: as long as it is open, room on the disk is kept for
    /// the rest of it.
    pub(crate) fn close_idle(&self, now: Instant) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, open| now.saturating_duration_since(open.used_at) < IDLE_MAX);
    }

    fn take(&self, digest: &Digest, now: Instant) -> Option<Partial> {
        self.close_idle(now);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(digest).map(|open| open.partial)
    }

    fn put(&self, digest: Digest, partial: Partial, now: Instant) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            let oldest =
                open.iter().min_by_key(|(_, open)| open.used_at).map(|(digest, _)| *digest);
            oldest.map(|digest| open.remove(&digest));
        }
        open.insert(digest, Open { partial, used_at: now });
    }
}

fn append(partial: &mut Partial, body: &mut Pipe) -> Result<(), PartError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => partial.append(&buffer[..length])?,
            Err(error) => return Err(PartError::Receive(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blobs::{blocking, pipe};

    #[tokio::test]
    async fn an_upload_that_nobody_goes_on_with_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (uploads, now) = (Arc::new(Uploads::default()), Instant::now());
        let (digest, size_bytes) = (Digest::of(b"large"), 2 << 20);
        let (pipe, fill) = pipe("the first part".into(), size_bytes);
        let (using, to) = (Arc::clone(&uploads), store.clone());
        let part = blocking(move || using.part(&to, digest, size_bytes, 0, pipe, now));
        let (part, ()) = tokio::join!(part, fill);
        assert_eq!(part.unwrap(), PartOutcome::More { offset: 14 });
        uploads.close_idle(now);
        assert!(matches!(store.begin(digest, size_bytes), Err(InsertError::Busy { .. })));
        uploads.close_idle(now + IDLE_MAX);
        assert_eq!(store.begin(digest, size_bytes).unwrap().offset(), 14);
    }
}
