//! What are the pieces of a large blob that many edges ask for at once?
//!
//! It takes a reading of all of it, so that is done once, and the answer is remembered for a while.

use std::collections::VecDeque;

use bytes::Bytes;
use nigh_core::blob::{Outline, ReadError, Store};
use nigh_proto::Digest;
use tokio::sync::Mutex;

use super::{BlobError, blocking};

/// Outlines that are remembered, of up to 2 MiB each.
const OUTLINES_MAX: usize = 16;

/// Outlines that were asked for of late, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Outlines(Mutex<VecDeque<(Digest, Bytes)>>);

impl Outlines {
    /// The outline of a blob that has a file of its own. One is made at a time; others wait.
    pub(crate) async fn get(
        &self,
        store: &Store,
        digest: Digest,
    ) -> Result<Option<Bytes>, BlobError> {
        let mut outlines = self.0.lock().await;
        if let Some((_, outline)) = outlines.iter().find(|(known, _)| *known == digest) {
            return Ok(Some(outline.clone()));
        }
        let store = store.clone();
        let Some(outline) = blocking(move || read(&store, digest)).await? else { return Ok(None) };
        let outline = Bytes::from(outline.encode());
        if outlines.len() >= OUTLINES_MAX {
            outlines.pop_front();
        }
        outlines.push_back((digest, outline.clone()));
        Ok(Some(outline))
    }
}

fn read(store: &Store, digest: Digest) -> Result<Option<Outline>, BlobError> {
    match store.outline(&digest) {
        // It was collected a moment ago.
        Err(ReadError::Missing { .. }) => Ok(None),
        read => Ok(read?),
    }
}
