//! How do bytes from the network get into the store without filling memory or stopping visitors?
//!
//! Packs go through a channel of a few pieces to a thread that may block; large blobs are appended
//! piece by piece, and a later try goes on where this one ended.

use std::{io, io::Read, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use nigh_core::blob::{InsertError, Inserted, Partial, Store};
use nigh_proto::{Digest, pack::PackHead};
use nigh_replica::{ByteStream, FetchError};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    load::{DOCUMENT_BYTES_MAX, Missing},
    source::BlobSource,
};

/// Pieces of a pack between network and disk; hyper's are at most 16 KiB over HTTP/2.
const PIECES_MAX: usize = 64;
/// Bytes of a large blob that are written at a time.
const APPEND_BYTES: usize = 1 << 20;

/// Why blobs are not in the store now. All are worth another try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("could not fetch blobs")]
    Fetch(#[from] FetchError),
    #[error("the connection broke while blobs came in")]
    Receive(#[from] io::Error),
    #[error("could not keep blobs")]
    Insert(#[from] InsertError),
    #[error("control sent {missing} blobs less than it was asked for")]
    Incomplete { missing: usize },
    #[error("document {digest} is longer than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong { digest: Digest },
    #[error("the edge is stopping")]
    Stopping,
}

/// Fetches small blobs in one pack. What the source did not send is still missing.
pub(crate) async fn fetch_pack(
    store: &Store,
    source: &dyn BlobSource,
    digests: &[Digest],
) -> Result<Inserted, IntakeError> {
    let stream = source.pack(digests).await?;
    let inserted = insert_pack(store, stream).await?;
    let missing = store.missing(digests).len();
    if missing > 0 { Err(IntakeError::Incomplete { missing }) } else { Ok(inserted) }
}

async fn insert_pack(store: &Store, mut stream: ByteStream) -> Result<Inserted, IntakeError> {
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let store = store.clone();
    let inserting =
        spawn_blocking(move || store.insert_pack(Pieces { received, current: Bytes::new() }));
    while let Some(piece) = stream.next().await {
        // The inserter gave up and will say why.
        if pieces.send(piece).await.is_err() {
            break;
        }
    }
    drop(pieces);
    inserting.await.map_err(|_| IntakeError::Stopping)?.map_err(Into::into)
}

/// What a blocking reader sees of a stream.
struct Pieces {
    received: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.received.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Fetches a blob whose size is known, going on where an earlier try ended.
pub(crate) async fn fetch_blob(
    store: &Store,
    source: &dyn BlobSource,
    missing: Missing,
) -> Result<(), IntakeError> {
    if missing.size_bytes <= u64::from(PackHead::MAX_BLOB_BYTES) {
        return fetch_document(store, source, &missing.digest).await;
    }
    let Missing { digest, size_bytes } = missing;
    let begun = store.clone();
    let mut partial = blocking(move || begun.begin(digest, size_bytes)).await?;
    if partial.offset() < size_bytes {
        let stream = source.blob(&digest, partial.offset()).await?;
        partial = append_all(partial, stream).await?;
    }
    blocking(move || partial.finish()).await
}

async fn append_all(mut partial: Partial, mut stream: ByteStream) -> Result<Partial, IntakeError> {
    let mut buffer = BytesMut::new();
    loop {
        let piece = stream.next().await.transpose();
        let is_end = matches!(piece, Ok(None) | Err(_));
        if let Ok(Some(piece)) = &piece {
            buffer.extend_from_slice(piece);
        }
        if buffer.len() >= APPEND_BYTES || (is_end && !buffer.is_empty()) {
            let bytes = buffer.split().freeze();
            partial = blocking(move || partial.append(&bytes).map(|()| partial)).await?;
        }
        if is_end {
            // What came before the connection broke is kept for the next try.
            return piece.map(|_| partial).map_err(Into::into);
        }
    }
}

/// Fetches a blob of unknown size that is held in memory as a whole: a manifest, a rule set.
pub(crate) async fn fetch_document(
    store: &Store,
    source: &dyn BlobSource,
    digest: &Digest,
) -> Result<(), IntakeError> {
    let digest = *digest;
    let mut stream = source.blob(&digest, 0).await?;
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        if (bytes.len() + piece.len()) as u64 > DOCUMENT_BYTES_MAX {
            return Err(IntakeError::TooLong { digest });
        }
        bytes.extend_from_slice(&piece);
    }
    let store = store.clone();
    blocking(move || {
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(InsertError::Mismatch { claimed: digest, actual });
        }
        store.insert(&bytes).map(drop)
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InsertError> + Send + 'static,
) -> Result<T, IntakeError> {
    Ok(spawn_blocking(work).await.map_err(|_| IntakeError::Stopping)??)
}

/// A shared source.
pub(crate) type Source = Arc<dyn BlobSource>;
