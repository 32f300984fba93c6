//! How do control's asynchronous parts use the blob store, which waits for the disk?
//!
//! [`Blobs`] runs every call on a thread that may block, bounds how many packs are taken in at
//! once, keeps a large upload open between its parts, and lets a collection begin only while
//! nobody is between "these are missing" and "a release needs them".
//!
//! With a bucket behind it (`remote`) the folder is where blobs are taken in and verified, and a
//! cache afterwards: what is stored is what the bucket has.

mod outlines;
mod pipe;
mod remote;
mod uploads;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Weak},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use nigh_bucket::Body;
use nigh_core::blob::{
    BlobStat, FileError, InsertError, Inserted, OpenError, ReadError, Store, StoreOptions, Usage,
    WritePackError,
};
use nigh_proto::{Digest, pack::InvalidPack};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};

use crate::store::StoreError;

use outlines::Outlines;
pub(crate) use pipe::{Pipe, PipeWriter, pipe, stream};
pub(crate) use remote::RemoteError;
pub(crate) use remote::{Needed, Remote, Standing};
pub(crate) use uploads::{PartError, PartOutcome, Uploads};

/// Packs taken in at once; each holds a few megabytes while it is checked.
const INSERTS_MAX: usize = 3;
/// Parts of large blobs taken in at once. Each keeps one of the 512 threads that may block waiting
/// for its client, so a bound leaves some for everyone else.
const PARTS_MAX: usize = 64;
/// Answers with blobs at once, each of which keeps a thread as well.
const SENDS_MAX: usize = 256;
/// Blobs that the folder has and the bucket lacks that one question puts there.
const KEPT_AT_ONCE_MAX: usize = 4096;
/// How many large ones of them.
const LARGE_AT_ONCE_MAX: usize = 16;

/// How often documents are inserted that a collection under way took again.
const INSERT_TRIES: usize = 4;

/// A promise to someone that nothing is collected.
#[derive(Debug)]
pub(crate) struct Keep(#[expect(dead_code, reason = "it counts as long as it lives")] Weak<()>);

/// The blob store, for asynchronous callers; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    store: Store,
    remote: Option<Arc<Remote>>,
    partial_dir: Arc<Path>,
    inserts: Arc<Semaphore>,
    parts: Arc<Semaphore>,
    sends: Arc<Semaphore>,
    /// Read: blobs are being promised to a release. Write: a collection settles what is live.
    promises: Arc<RwLock<()>>,
    /// Held by those who read many blobs for long: nothing is collected meanwhile.
    keepers: Arc<()>,
    pub(crate) uploads: Arc<Uploads>,
    outlines: Arc<Outlines>,
}

impl Blobs {
    /// Opens the store in `dir`; reads the heads of all packs.
    pub(crate) async fn open(dir: &Path, reserve_bytes: Option<u64>) -> Result<Self, OpenError> {
        let options = StoreOptions { reserve_bytes, ..StoreOptions::default() };
        let (folder, path) = (dir.to_path_buf(), dir.join("partial"));
        let store = blocking(move || Store::open_with(&folder, options)).await?;
        Ok(Self {
            store,
            remote: None,
            partial_dir: path.into(),
            inserts: Arc::new(Semaphore::new(INSERTS_MAX)),
            parts: Arc::new(Semaphore::new(PARTS_MAX)),
            sends: Arc::new(Semaphore::new(SENDS_MAX)),
            promises: Arc::default(),
            keepers: Arc::default(),
            uploads: Arc::default(),
            outlines: Arc::default(),
        })
    }

    /// The same with a bucket behind it.
    pub(crate) fn with_remote(self, remote: Arc<Remote>) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// The bucket, when there is one.
    pub(crate) fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    /// The folder of the store.
    pub(crate) fn dir(&self) -> &Path {
        self.partial_dir.parent().unwrap_or(&self.partial_dir)
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
    pub(crate) async fn insert_pack(&self, pack: Pipe) -> Result<Inserted, BlobError> {
        let _place = self.inserts.acquire().await.expect("this semaphore is never closed");
        let store = self.store.clone();
        let (inserted, digests) = blocking(move || store.insert_pack_named(pack)).await?;
        self.put_into_bucket(&digests).await?;
        Ok(inserted)
    }

    /// Sees that the bucket, if there is one, has those of `digests` that the folder has.
    async fn put_into_bucket(&self, digests: &[Digest]) -> Result<(), BlobError> {
        match &self.remote {
            Some(remote) => remote.keep(digests).await,
            None => Ok(()),
        }
    }

    /// Those of `digests` that a push has to bring, each once; the others outlive the next
    /// collection as far as a release names them.
    pub(crate) async fn missing(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, BlobError> {
        let Some(remote) = &self.remote else {
            let store = self.store.clone();
            return Ok(blocking(move || store.missing(&digests)).await);
        };
        let unkept = remote.missing(&digests).await?;
        // Taken in before the bucket failed, or before there was one: nobody has to send it again.
        let here = unkept.iter().filter_map(|digest| Some((*digest, self.store.stat(digest)?)));
        let (large, small): (Vec<_>, Vec<_>) =
            here.take(KEPT_AT_ONCE_MAX).partition(|(_, stat)| stat.is_loose);
        if large.is_empty() && small.is_empty() {
            return Ok(unkept);
        }
        let small: Vec<Digest> = small.into_iter().map(|(digest, _)| digest).collect();
        remote.keep(&small).await?;
        // Those that take longer are asked for again until they are there.
        let large = large.into_iter().take(LARGE_AT_ONCE_MAX);
        try_join_all(large.map(|(digest, _)| remote.keep_large(digest))).await?;
        Ok(remote.missing(&unkept).await?)
    }

    /// Brings those of `digests` into the folder that only the bucket has.
    pub(crate) async fn fetch(&self, digests: &[Digest]) -> Result<(), BlobError> {
        if let Some(remote) = &self.remote {
            remote.fetch(digests).await?;
            // Who is read is kept in the cache for longer.
            let (store, digests) = (self.store.clone(), digests.to_vec());
            blocking(move || store.missing(&digests)).await;
        }
        Ok(())
    }

    /// How many bytes each of `digests` has that is stored.
    pub(crate) async fn sizes(
        &self,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, u64>, BlobError> {
        if let Some(remote) = &self.remote {
            let places = remote.places(digests).await?;
            return Ok(places.iter().map(|place| (place.digest, place.raw_len)).collect());
        }
        let (store, digests) = (self.store.clone(), digests.to_vec());
        let sizes = move || {
            let size = |digest: Digest| Some((digest, store.stat(&digest)?.raw_len));
            digests.into_iter().filter_map(size).collect()
        };
        Ok(blocking(sizes).await)
    }

    /// The bytes of a large blob from `offset` on, when only the bucket has it.
    pub(crate) async fn open_remote(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<Option<Body>, BlobError> {
        match &self.remote {
            Some(remote) => remote.open_large(digest, offset).await,
            None => Ok(None),
        }
    }

    /// How far the upload of a blob has come.
    pub(crate) async fn stands(&self, digest: Digest) -> Result<Stands, BlobError> {
        if self.missing(vec![digest]).await?.is_empty() {
            return Ok(Stands::Stored);
        }
        let offset = match self.store.stat(&digest) {
            // The folder has it and the bucket does not yet.
            Some(stat) => stat.raw_len,
            None => self.partial_bytes(digest).await,
        };
        Ok(Stands::Partial { offset })
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
        let outcome = {
            let _place = self.parts.acquire().await.expect("this semaphore is never closed");
            let (store, uploads) = (self.store.clone(), Arc::clone(&self.uploads));
            blocking(move || uploads.part(&store, digest, size_bytes, offset, part, now)).await?
        };
        match (&self.remote, outcome) {
            // More of nothing is asked for until the bucket has it.
            (Some(remote), PartOutcome::Whole) if !remote.keep_large(digest).await? => {
                Ok(PartOutcome::More { offset: size_bytes })
            }
            (_, outcome) => Ok(outcome),
        }
    }

    /// The outline of a large blob that the folder has, as it is sent.
    pub(crate) async fn outline(&self, digest: Digest) -> Result<Option<Bytes>, BlobError> {
        if !self.store.stat(&digest).is_some_and(|stat| stat.is_loose) {
            return Ok(None);
        }
        self.outlines.get(&self.store, digest).await
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
        documents: impl Into<Arc<[Vec<u8>]>>,
    ) -> Result<Vec<Digest>, BlobError> {
        let (store, documents) = (self.store.clone(), documents.into());
        let digests = blocking(move || store.insert_many(&documents)).await?;
        self.put_into_bucket(&digests).await?;
        Ok(digests)
    }

    /// Keeps documents that a release will need which nobody knows of yet: a collection that is
    /// under way leaves them alone.
    pub(crate) async fn insert_promised(&self, documents: Vec<Vec<u8>>) -> Result<(), BlobError> {
        let documents: Arc<[Vec<u8>]> = documents.into();
        for _ in 0..INSERT_TRIES {
            let digests = self.insert_documents(Arc::clone(&documents)).await?;
            // Whoever asks marks them as wanted; until then they may have been taken again.
            if self.missing(digests).await?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The raw bytes of a blob, verified, if they are no more than `max_bytes`.
    pub(crate) async fn read(&self, digest: Digest, max_bytes: u64) -> Result<Vec<u8>, BlobError> {
        self.fetch(&[digest]).await?;
        let store = self.store.clone();
        Ok(blocking(move || store.read_up_to(&digest, max_bytes)).await?)
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

/// How far the upload of a blob has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    Stored,
    Partial { offset: u64 },
}

/// Why a blob was not kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error(transparent)]
    Insert(#[from] InsertError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("blobs could not be packed for the bucket")]
    Pack(#[from] WritePackError),
    #[error("what was packed for the bucket is no pack")]
    Packed(#[source] InvalidPack),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bucket(#[from] nigh_bucket::Error),
    #[error(transparent)]
    Remote(Box<RemoteError>),
}

impl From<RemoteError> for BlobError {
    fn from(error: RemoteError) -> Self {
        BlobError::Remote(Box::new(error))
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
