//! Where do missing blobs come from?

use std::{future::Future, pin::Pin};

use nigh_proto::Digest;
use nigh_replica::{ByteStream, FetchError, Replica};

/// A body that is on its way, or why not.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<ByteStream, FetchError>> + Send + 'a>>;

/// Something that has blobs. Control in production, whatever a test needs otherwise.
pub trait BlobSource: Send + Sync {
    /// A pack of those of `digests` that the source has.
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a>;

    /// The raw bytes of one blob of any size from `offset` on.
    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a>;
}

impl BlobSource for Replica {
    fn pack<'a>(&'a self, digests: &'a [Digest]) -> Fetching<'a> {
        Box::pin(self.fetch_pack(digests))
    }

    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> Fetching<'a> {
        Box::pin(self.fetch_blob(digest, offset))
    }
}
