//! An object is gone or damaged: what becomes of its blobs?
//!
//! What the folder still has is put again; the rest is forgotten, so that the next push of a folder
//! that has it sends it again. Edges that hold the blobs go on serving them.

use std::sync::Arc;

use nigh_core::blob::StoredBody;
use nigh_proto::{
    Digest,
    locations::runs,
    pack::{PackHead, PackedBlob},
};

use super::{Remote, located};
use crate::{
    blobs::{BlobError, blocking},
    store::PlaceRow,
};

impl Remote {
    /// Looks at an object that an edge found gone or damaged.
    pub(crate) async fn suspect(self: &Arc<Self>, object: &str) -> Result<(), BlobError> {
        let places = self.database.places_in(object).await?;
        let Some(end) = places.iter().map(|place| place.start + place.stored_len).max() else {
            return Ok(());
        };
        match self.bucket.head(object).await? {
            None => self.object_is_lost(object).await,
            Some(bytes) if bytes < end => self.object_is_damaged(object).await,
            Some(_) => match self.damaged(&places).await? {
                damaged if damaged.is_empty() => Ok(()),
                damaged => self.replace(object, damaged).await,
            },
        }
    }

    /// The object is gone.
    pub(super) async fn object_is_lost(self: &Arc<Self>, object: &str) -> Result<(), BlobError> {
        // Another control, or a collection, may have moved what was in it in the meantime.
        if self.bucket.head(object).await?.is_some() {
            return Ok(());
        }
        let places = self.database.places_in(object).await?;
        self.replace(object, places.iter().map(|place| place.digest).collect()).await
    }

    /// Something in the object is not what it was.
    pub(super) async fn object_is_damaged(self: &Arc<Self>, object: &str) -> Result<(), BlobError> {
        let places = self.database.places_in(object).await?;
        let damaged = self.damaged(&places).await?;
        self.replace(object, damaged).await
    }

    /// Which blobs of an object have other bytes. Reads all of it.
    async fn damaged(&self, places: &[PlaceRow]) -> Result<Vec<Digest>, BlobError> {
        let mut damaged = Vec::new();
        for place in places {
            let blob = located(place);
            let is_whole_there = if blob.is_small() {
                match self.fetch_run(&place.object, &runs(vec![blob])[0]).await {
                    Ok(pack) => blocking(move || is_whole(&pack)).await,
                    Err(BlobError::Bucket(error)) if !error.cause.is_passing() => false,
                    Err(error) => return Err(error),
                }
            } else {
                self.is_large_whole(place).await?
            };
            if !is_whole_there {
                damaged.push(place.digest);
            }
        }
        Ok(damaged)
    }

    async fn is_large_whole(&self, place: &PlaceRow) -> Result<bool, BlobError> {
        let mut body = match self.bucket.get(&place.object, 0..place.stored_len).await {
            Ok(body) => body,
            Err(error) if !error.cause.is_passing() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = body.next().await? {
            hasher.update(&piece);
        }
        Ok(Digest::from(hasher.finalize()) == place.digest)
    }

    /// Forgets where `digests` were, and puts again those that the folder has whole.
    async fn replace(
        self: &Arc<Self>,
        object: &str,
        digests: Vec<Digest>,
    ) -> Result<(), BlobError> {
        let mut tx = self.database.begin().await?;
        let mut forgotten = Vec::new();
        for digest in digests {
            if tx.forget_place(object, &digest).await? {
                forgotten.push(digest);
            }
        }
        tx.commit().await?;
        if forgotten.is_empty() {
            return Ok(());
        }
        let folder = self.folder.clone();
        let (whole, lost): (Vec<_>, Vec<_>) =
            blocking(move || forgotten.into_iter().partition(|digest| folder.verify(digest))).await;
        // Boxed, since putting again is what may have found the loss.
        Box::pin(self.keep(&whole)).await?;
        let (refilled, lost) = (whole.len(), lost.len() as u64);
        self.standing().lost_blobs += lost;
        if lost > 0 {
            tracing::error!(
                object,
                blobs_lost = lost,
                blobs_refilled = refilled,
                "{lost} blobs are lost from the bucket; push the folders that have them again"
            );
        } else {
            tracing::warn!(
                object,
                blobs_refilled = refilled,
                "{refilled} blobs were gone from the bucket and were put again"
            );
        }
        Ok(())
    }
}

/// Whether the one blob of `pack` is what it claims to be.
fn is_whole(pack: &[u8]) -> bool {
    let Ok(PackHead { blobs }) = PackHead::parse(pack) else { return false };
    let Some(&PackedBlob { digest, coding, raw_len, .. }) = blobs.first() else { return false };
    let bytes = pack[PackHead::head_bytes(1)..].to_vec();
    StoredBody { digest, coding, raw_len, bytes }.into_raw().is_ok()
}
