//! How does what the folder has taken in get into the bucket?

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use nigh_bucket::Content;
use nigh_proto::{
    Digest,
    pack::{PackHead, PackedBlob},
};

use super::Remote;
use crate::{
    blobs::{BlobError, blocking},
    store::{ObjectRow, PlaceRow, StoreError},
};

/// The stored bytes of one object with small blobs: few requests, and several fit into memory.
const PACK_BYTES: u64 = 16 << 20;
/// An object that somebody counts on is noted to be wanted at most so often.
const WANTED_AGAIN_MS: i64 = 5 * 60 * 1000;

impl Remote {
    /// Puts those of `digests` that the folder has and the bucket lacks. After `Ok` the bucket has
    /// them, and those that it had already are kept from being collected for a while.
    pub(crate) async fn keep(self: &Arc<Self>, digests: &[Digest]) -> Result<(), BlobError> {
        let places = self.database.places(digests).await?;
        let known: HashSet<Digest> = places.iter().map(|place| place.digest).collect();
        self.want(&places).await?;
        let mut seen = HashSet::new();
        let missing = digests.iter().filter(|digest| !known.contains(digest));
        let missing = missing.filter(|digest| seen.insert(**digest));
        let mut small = Vec::new();
        let (mut bytes, mut large) = (0, Vec::new());
        for digest in missing {
            let Some(stat) = self.folder.stat(digest) else { continue };
            if stat.is_loose {
                large.push(*digest);
                continue;
            }
            let is_full =
                bytes + stat.stored_len > PACK_BYTES || small.len() == PackHead::MAX_BLOBS;
            if is_full && !small.is_empty() {
                self.put_pack(std::mem::take(&mut small)).await?;
                bytes = 0;
            }
            bytes += stat.stored_len;
            small.push(*digest);
        }
        if !small.is_empty() {
            self.put_pack(small).await?;
        }
        for digest in large {
            while !self.keep_large(digest).await? {}
        }
        Ok(())
    }

    /// Notes that the objects of `places` are counted on.
    async fn want(&self, places: &[PlaceRow]) -> Result<(), StoreError> {
        let objects: BTreeSet<&str> = places.iter().map(|place| &*place.object).collect();
        if objects.is_empty() {
            return Ok(());
        }
        let (now, mut tx) = (self.now(), self.database.begin().await?);
        let before = now.plus_ms(-WANTED_AGAIN_MS);
        for object in objects {
            if tx.is_unwanted(object, before).await? {
                tx.want_object(object, now).await?;
            }
        }
        tx.commit().await
    }

    /// Puts small blobs as one object.
    async fn put_pack(&self, digests: Vec<Digest>) -> Result<(), BlobError> {
        let _turn = self.puts.acquire().await.expect("this semaphore is never closed");
        let folder = self.folder.clone();
        let pack = blocking(move || -> Result<Vec<u8>, BlobError> {
            let mut pack = Vec::new();
            folder.write_pack(&digests, &mut pack)?;
            Ok(pack)
        })
        .await?;
        self.put_pack_of(pack.into()).await.map(drop)
    }

    /// Puts a pack and says where its blobs are now.
    pub(super) async fn put_pack_of(&self, pack: Bytes) -> Result<Vec<PlaceRow>, BlobError> {
        let head = PackHead::parse(&pack).map_err(BlobError::Packed)?;
        let content = Content::Bytes(pack);
        self.put("packs", &content, None, |key| places(key, &head.blobs)).await
    }

    /// Puts an object, of the one blob `digest` if that is named. When it is there, says what is in
    /// it by its name.
    pub(super) async fn put(
        &self,
        folder: &str,
        content: &Content,
        digest: Option<Digest>,
        places: impl FnOnce(&str) -> Vec<PlaceRow>,
    ) -> Result<Vec<PlaceRow>, BlobError> {
        self.claim().await?;
        let put = self.put_object(folder, content, digest).await;
        self.standing().failure = put.as_ref().err().map(ToString::to_string);
        let key = put?;
        let places = places(&key);
        let row = ObjectRow { key, bytes: content.bytes(), wanted_at: self.now() };
        let mut tx = self.database.begin().await?;
        tx.insert_object(&row).await?;
        tx.insert_places(&places).await?;
        tx.commit().await?;
        Ok(places)
    }
}

/// Where the bodies of a pack lie in the object `key`.
pub(super) fn places(key: &str, blobs: &[PackedBlob]) -> Vec<PlaceRow> {
    let mut start = PackHead::head_bytes(blobs.len()) as u64;
    let place = |blob: &PackedBlob| {
        let place = PlaceRow {
            digest: blob.digest,
            object: key.to_owned(),
            start,
            stored_len: u64::from(blob.stored_len),
            raw_len: u64::from(blob.raw_len),
        };
        start += place.stored_len;
        place
    };
    blobs.iter().map(place).collect()
}
