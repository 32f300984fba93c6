//! How do blobs get back from the bucket into the folder?
//!
//! Only when control itself needs them, or an edge that cannot reach the bucket. They are verified as
//! those that are pushed; what is gone or damaged is handed to [`lost`](super::lost).

use std::sync::Arc;

use bytes::BytesMut;
use nigh_bucket::{Body, Cause};
use nigh_core::blob::InsertError;
use nigh_proto::{
    Digest,
    locations::{LocatedBlob, Run, runs},
    pack::{PackHead, PackedBlob, StoredCoding},
};

use super::{Remote, located};
use crate::{
    blobs::{BlobError, blocking},
    store::PlaceRow,
};

/// Bytes of a large blob that are written at a time.
const APPEND_BYTES: usize = 1 << 20;

impl Remote {
    /// Brings those of `digests` into the folder that only the bucket has. What neither has is
    /// still missing afterwards.
    pub(crate) async fn fetch(self: &Arc<Self>, digests: &[Digest]) -> Result<(), BlobError> {
        if self.absent(digests).is_empty() {
            return Ok(());
        }
        let _turn = self.gets.acquire().await.expect("this semaphore is never closed");
        // Somebody may have fetched the same while this waited.
        let mut places = self.database.places(&self.absent(digests)).await?;
        places.sort_unstable_by(|a, b| (&a.object, a.start).cmp(&(&b.object, b.start)));
        for places in places.chunk_by(|a, b| a.object == b.object) {
            match self.fetch_object(places).await {
                Err(BlobError::Bucket(error)) if error.cause == Cause::Missing => {
                    self.object_is_lost(&places[0].object).await?;
                }
                Err(BlobError::Insert(error)) if is_damage(&error) => {
                    self.object_is_damaged(&places[0].object).await?;
                }
                fetched => fetched?,
            }
        }
        Ok(())
    }

    fn absent(&self, digests: &[Digest]) -> Vec<Digest> {
        digests.iter().filter(|digest| !self.folder.contains(digest)).copied().collect()
    }

    async fn fetch_object(&self, places: &[PlaceRow]) -> Result<(), BlobError> {
        let object = &places[0].object;
        let (small, large): (Vec<_>, Vec<_>) =
            places.iter().map(located).partition(LocatedBlob::is_small);
        for run in runs(small) {
            let pack = self.fetch_run(object, &run).await?;
            let folder = self.folder.clone();
            blocking(move || folder.insert_pack(&pack[..])).await?;
        }
        for blob in large {
            self.fetch_large(object, blob).await?;
        }
        Ok(())
    }

    /// The blobs of a run as a pack, unverified.
    pub(super) async fn fetch_run(&self, object: &str, run: &Run) -> Result<Vec<u8>, BlobError> {
        let bytes = self.bucket.get(object, run.start..run.end).await?.collect().await?;
        let head = PackHead { blobs: run.blobs.iter().map(packed).collect() };
        let mut pack = head.encode();
        for blob in &run.blobs {
            let bounds = (blob.start - run.start) as usize..(blob.end() - run.start) as usize;
            pack.extend_from_slice(bytes.get(bounds).unwrap_or_default());
        }
        Ok(pack)
    }

    async fn fetch_large(&self, object: &str, blob: LocatedBlob) -> Result<(), BlobError> {
        let LocatedBlob { digest, raw_len, .. } = blob;
        let folder = self.folder.clone();
        let mut partial = blocking(move || folder.begin(digest, raw_len)).await?;
        if partial.offset() < raw_len {
            let mut body = self.bucket.get(object, partial.offset()..raw_len).await?;
            let mut buffer = BytesMut::new();
            loop {
                let piece = body.next().await?;
                let is_end = piece.is_none();
                buffer.extend_from_slice(&piece.unwrap_or_default());
                if buffer.len() >= APPEND_BYTES || is_end {
                    let bytes = buffer.split().freeze();
                    partial = blocking(move || partial.append(&bytes).map(|()| partial)).await?;
                }
                if is_end {
                    break;
                }
            }
        }
        Ok(blocking(move || partial.finish()).await?)
    }

    /// The raw bytes of a large blob from `offset` on, straight from the bucket, and its length.
    /// `None` when the bucket does not have it.
    pub(crate) async fn open_large(
        self: &Arc<Self>,
        digest: Digest,
        offset: u64,
    ) -> Result<Option<Body>, BlobError> {
        let Some(place) = self.database.places(&[digest]).await?.pop() else { return Ok(None) };
        let (start, end) = (place.start.saturating_add(offset), place.start + place.stored_len);
        if start >= end {
            return Ok(None);
        }
        match self.bucket.get(&place.object, start..end).await {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.cause == Cause::Missing => {
                self.object_is_lost(&place.object).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// How a body of an object is listed in a pack.
pub(super) fn packed(blob: &LocatedBlob) -> PackedBlob {
    let coding =
        if blob.stored_len == blob.raw_len { StoredCoding::Identity } else { StoredCoding::Zstd };
    let small = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    let (stored_len, raw_len) = (small(blob.stored_len), small(blob.raw_len));
    PackedBlob { digest: blob.digest, coding, stored_len, raw_len }
}

/// Whether the bytes were others than those that were put.
const fn is_damage(error: &InsertError) -> bool {
    !matches!(
        error,
        InsertError::Full { .. } | InsertError::Write { .. } | InsertError::Busy { .. }
    )
}
