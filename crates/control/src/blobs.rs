//! How do control's asynchronous parts use the blob store, which waits for the disk?
//!
//! [`Blobs`] runs every call on a thread that may block, bounds how many packs are taken in at
//! once, keeps a large upload open between its parts, and lets a collection begin only while
//! nobody is between "these are missing" and "a release needs them".

mod pipe;
mod uploads;

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Instant,
};

use nigh_core::blob::{BlobStat, InsertError, OpenError, ReadError, Store, StoreOptions, Usage};
use nigh_proto::Digest;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};

pub(crate) use pipe::{Pipe, PipeWriter, pipe, stream};
pub(crate) use uploads::{PartError, PartOutcome, Uploads};

/// Packs taken in at once; each holds a few megabytes while it is checked.
const INSERTS_MAX: usize = 3;
/// Parts of large blobs taken in at once. Each keeps one of the 512 threads that may block waiting
/// for its client, so a bound leaves some for everyone else.
const PARTS_MAX: usize = 64;
/// Answers with blobs at once, each of which keeps a thread as well.
const SENDS_MAX: usize = 256;

/// A promise to someone that nothing is collected.
#[derive(Debug)]
pub(crate) struct Keep(#[expect(dead_code, reason = "it counts as long as it lives")] Weak<()>);

/// The blob store, for asynchronous callers; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    store: Store,
    partial_dir: Arc<Path>,
    inserts: Arc<Semaphore>,
    parts: Arc<Semaphore>,
    sends: Arc<Semaphore>,
    /// Read: blobs are being promised to a release. Write: a collection settles what is live.
    promises: Arc<RwLock<()>>,
    /// Held by those who read many blobs for long: nothing is collected meanwhile.
    keepers: Arc<()>,
    pub(crate) uploads: Arc<Uploads>,
}

impl Blobs {
    /// Opens the store in `dir`; reads the heads of all packs.
    pub(crate) async fn open(dir: &Path, reserve_bytes: Option<u64>) -> Result<Self, OpenError> {
        let options = StoreOptions { reserve_bytes, ..StoreOptions::default() };
        let (folder, path) = (dir.to_path_buf(), dir.join("partial"));
        let store = blocking(move || Store::open_with(&folder, options)).await?;
        Ok(Self {
            store,
            partial_dir: path.into(),
            inserts: Arc::new(Semaphore::new(INSERTS_MAX)),
            parts: Arc::new(Semaphore::new(PARTS_MAX)),
            sends: Arc::new(Semaphore::new(SENDS_MAX)),
            promises: Arc::default(),
            keepers: Arc::default(),
            uploads: Arc::default(),
        })
    }

    /// The store itself, for callers that are on a thread that may block already.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Until this is dropped no collection settles what is live.
    pub(crate) async fn promise(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.promises).read_owned().await
    }

    /// Until this is dropped nobody is promised a blob.
    pub(crate) async fn settle(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.promises).write_owned().await
    }

    /// Until this is dropped no collection begins.
    pub(crate) fn keep(&self) -> Keep {
        Keep(Arc::downgrade(&self.keepers))
    }

    pub(crate) fn is_kept(&self) -> bool {
        // Clones of this store share one count, so only keeps are counted apart.
        Arc::weak_count(&self.keepers) > 0
    }

    /// Takes in a pack as it arrives.
    pub(crate) async fn insert_pack(
        &self,
        pack: Pipe,
    ) -> Result<nigh_core::blob::Inserted, InsertError> {
        let _place = self.inserts.acquire().await.expect("this semaphore is never closed");
        let store = self.store.clone();
        blocking(move || store.insert_pack(pack)).await
    }

    /// Takes in the part of a large blob that begins at `offset`, as it arrives.
    pub(crate) async fn part(
        &self,
        digest: Digest,
        size_bytes: u64,
        offset: u64,
        part: Pipe,
        now: Instant,
    ) -> Result<PartOutcome, PartError> {
        let _place = self.parts.acquire().await.expect("this semaphore is never closed");
        let (store, uploads) = (self.store.clone(), Arc::clone(&self.uploads));
        blocking(move || uploads.part(&store, digest, size_bytes, offset, part, now)).await
    }

    /// Lets `work` fill an answer, as fast as it is read, on a thread of its own.
    pub(crate) async fn send(&self, work: impl FnOnce() + Send + 'static) {
        let sends = Arc::clone(&self.sends);
        let place = sends.acquire_owned().await.expect("this semaphore is never closed");
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work();
        });
    }

    /// Keeps `documents`, of any size, and returns their digests in order.
    pub(crate) async fn insert_documents(
        &self,
        documents: Vec<Vec<u8>>,
    ) -> Result<Vec<Digest>, InsertError> {
        let store = self.store.clone();
        blocking(move || store.insert_many(&documents)).await
    }

    /// The raw bytes of a blob, verified, if they are no more than `max_bytes`.
    pub(crate) async fn read(&self, digest: Digest, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let store = self.store.clone();
        blocking(move || store.read_up_to(&digest, max_bytes)).await
    }

    pub(crate) fn stat(&self, digest: &Digest) -> Option<BlobStat> {
        self.store.stat(digest)
    }

    pub(crate) fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// How many bytes of an unfinished upload are there.
    pub(crate) async fn partial_bytes(&self, digest: Digest) -> u64 {
        // The store names the file by the digest; a missing one is an upload of nothing.
        let path = self.partial_dir.join(digest.to_string());
        tokio::fs::metadata(path).await.map_or(0, |metadata| metadata.len())
    }
}

/// Runs `work` on a thread that may block; a panic there is a panic here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use axum::body::Body;
    use futures_util::{FutureExt as _, stream::pending};

    use super::*;

    /// Runs `stall` where `threads` may block, then something that needs one of them.
    fn leaves_a_thread<T>(threads: usize, stall: impl AsyncFnOnce(&Blobs) -> T) {
        let dir = tempfile::tempdir().unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(threads).enable_all().build().unwrap();
        runtime.block_on(async {
            let blobs = Blobs::open(dir.path(), None).await.unwrap();
            let _stalled = stall(&blobs).await;
            let work = tokio::time::timeout(Duration::from_secs(5), blocking(|| ()));
            assert!(work.await.is_ok(), "every thread waits for somebody");
        });
    }

    #[test]
    fn parts_that_stall_leave_threads_for_others() {
        leaves_a_thread(PARTS_MAX + 1, async |blobs| {
            let mut stalled = Vec::new();
            for number in 0..=PARTS_MAX {
                let digest = Digest::of(&number.to_le_bytes());
                let never = Body::from_stream(pending::<std::io::Result<Vec<u8>>>());
                let (pipe, fill) = pipe(never, 1);
                let blobs = blobs.clone();
                let part =
                    async move { blobs.part(digest, 2 << 20, 0, pipe, Instant::now()).await };
                let mut part = Box::pin(part);
                assert!(part.as_mut().now_or_never().is_none());
                stalled.push((part, fill));
            }
            stalled
        });
    }

    #[test]
    fn answers_that_nobody_reads_leave_threads_for_others() {
        leaves_a_thread(SENDS_MAX + 1, async |blobs| {
            let mut readers = Vec::new();
            for number in 0..=SENDS_MAX {
                let (reader, read) = mpsc::channel::<()>();
                let sent = blobs.send(move || _ = read.recv()).now_or_never();
                assert_eq!(sent.is_some(), number < SENDS_MAX);
                readers.push(reader);
                // The runtime bounds what a task may do in one turn.
                tokio::task::yield_now().await;
            }
            readers
        });
    }
}
