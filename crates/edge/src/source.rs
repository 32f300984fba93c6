//! Where do missing blobs come from?

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures_util::StreamExt;
use nigh_core::blob::Outline;
use nigh_proto::Digest;
use nigh_replica::{ByteStream, FetchError, Replica};
use prometheus_client::metrics::counter::Counter;

use crate::metrics::Metrics;

/// A body that is on its way, or why not.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<ByteStream, FetchError>> + Send + 'a>>;

/// The outline of a blob that is on its way.
pub type Outlining<'a> = Pin<Box<dyn Future<Output = Option<Bytes>> + Send + 'a>>;

/// Something that has blobs. Control in production, whatever a test needs otherwise.
pub trait BlobSource: Send + Sync {
    /// A pack of those of `digests` that the source has.
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a>;

    /// The raw bytes of one blob of any size from `offset` on.
    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a>;

    /// The outline of a large blob, unverified, if the source knows it.
    fn outline<'a>(&'a self, _digest: &'a Digest, _size_bytes: u64) -> Outlining<'a> {
        Box::pin(std::future::ready(None))
    }
}

impl BlobSource for Replica {
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a> {
        Box::pin(self.fetch_pack(digests))
    }

    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a> {
        Box::pin(self.fetch_blob(digest, offset))
    }

    fn outline<'a>(&'a self, digest: &'a Digest, size_bytes: u64) -> Outlining<'a> {
        Box::pin(async move {
            let outline = self.fetch_outline(digest, Outline::encoded_bytes(size_bytes)).await;
            let said = |error: &FetchError| tracing::debug!(%error, "control gave no outline");
            outline.inspect_err(said).ok()
        })
    }
}

/// Counts what is fetched, by where it came from; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    metrics: Arc<Metrics>,
    all_bytes: Arc<AtomicU64>,
}

/// A source whose bytes are counted as they come.
pub(crate) struct Counted<S> {
    source: S,
    counter: Counter,
    all_bytes: Arc<AtomicU64>,
}

impl Counting {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Counting { metrics, all_bytes: Arc::default() }
    }

    /// `source`, counted as `label`.
    pub(crate) fn of<S>(&self, source: S, label: &'static str) -> Counted<S> {
        let counter = self.metrics.fetched_bytes(label);
        Counted { source, counter, all_bytes: Arc::clone(&self.all_bytes) }
    }

    /// Bytes from everywhere.
    pub(crate) fn all_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.all_bytes)
    }
}

impl Counting {
    /// `stream`, whose bytes are counted as `label`.
    pub(crate) fn count(&self, stream: ByteStream, label: &'static str) -> ByteStream {
        self.of((), label).count(stream)
    }
}

impl<S> Counted<S> {
    fn count(&self, stream: ByteStream) -> ByteStream {
        let (counter, all_bytes) = (self.counter.clone(), Arc::clone(&self.all_bytes));
        ByteStream::new(stream.inspect(move |piece| {
            if let Ok(piece) = piece {
                counter.inc_by(piece.len() as u64);
                all_bytes.fetch_add(piece.len() as u64, Relaxed);
            }
        }))
    }
}

impl<S: std::ops::Deref<Target: BlobSource> + Send + Sync> BlobSource for Counted<S> {
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a> {
        Box::pin(async move { Ok(self.count(self.source.pack(digests).await?)) })
    }

    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a> {
        Box::pin(async move { Ok(self.count(self.source.blob(digest, offset).await?)) })
    }
}
