//! Which large blobs are arriving here, and how much of each is verified?
//!
//! Peers are given the pieces that are here before the blob is whole, so that a large blob crosses the
//! fleet while it comes in, and not once for each edge on the way.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nigh_proto::Digest;
use tokio::sync::watch;

/// Blobs that are arriving; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<Mutex<HashMap<Digest, Arriving>>>);

/// A blob that is arriving, as those see it who follow.
#[derive(Clone, Debug)]
pub(crate) struct Arriving {
    file: Arc<File>,
    size_bytes: u64,
    /// Its sender is gone when nothing more arrives.
    verified: watch::Receiver<u64>,
}

/// A blob that is arriving, until this is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    arrivals: Arrivals,
    digest: Digest,
    verified: watch::Sender<u64>,
}

impl Arrivals {
    /// A blob begins to arrive in `file`, whose first `verified` bytes are its own.
    pub(crate) fn begin(
        &self,
        digest: Digest,
        size_bytes: u64,
        file: File,
        verified: u64,
    ) -> Arrival {
        let (sender, receiver) = watch::channel(verified);
        let arriving = Arriving { file: Arc::new(file), size_bytes, verified: receiver };
        self.all().insert(digest, arriving);
        Arrival { arrivals: self.clone(), digest, verified: sender }
    }

    /// The blob, if some of it is here.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arriving> {
        self.all().get(digest).filter(|arriving| arriving.verified() > 0).cloned()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Digest, Arriving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// How many bytes are here and the blob's own.
    pub(crate) fn verified(&self) -> u64 {
        *self.verified.borrow()
    }

    /// How many when it is more than `offset`; `None` when no more arrives.
    pub(crate) async fn verified_beyond(&mut self, offset: u64) -> Option<u64> {
        let more = self.verified.wait_for(|verified| *verified > offset).await;
        more.ok().map(|verified| *verified)
    }
}

impl Arrival {
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// So many bytes are here now.
    pub(crate) fn verified(&self, bytes: u64) {
        self.verified.send_replace(bytes);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Those who follow have the file; the store answers for the blob now, if it became whole.
        self.arrivals.all().remove(&self.digest);
    }
}
