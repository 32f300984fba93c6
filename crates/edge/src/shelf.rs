//! Where do the bytes of an answer come from: memory or disk, and what if they are damaged?

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use nigh_core::{
    blob::{ReadError, Store},
    hot::HotCache,
};
use nigh_proto::{Digest, pack::StoredCoding, variants::ContentCoding};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{checked::Checked, heal::Healer, load::Missing};

/// How long a visitor waits for a damaged blob to be healed.
const HEAL_WAIT: Duration = Duration::from_secs(2);

/// The bytes to send of one representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// The blob that holds the bytes.
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    /// Send the zstd frame that the blob is stored as, instead of the blob.
    pub(crate) is_stored_frame: bool,
}

/// Bytes that are here.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// All of them.
    Memory(Bytes),
    /// In a file of their own, too many for memory.
    File(Arc<File>),
}

/// The bytes are not here now; asking again soon is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

type Loading = Shared<BoxFuture<'static, Result<Found, Unavailable>>>;

/// Everything that an edge can send; cheap to clone.
#[derive(Clone)]
pub(crate) struct Shelf(Arc<Inner>);

struct Inner {
    store: Store,
    hot: Arc<HotCache>,
    healer: Healer,
    disk_reads: Semaphore,
    checked: Checked,
    /// Misses under way, so that a blob that many ask for is read once.
    loading: Mutex<HashMap<Wanted, Loading>>,
}

/// Whether bytes came from memory or from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Memory,
    Disk,
}

impl Shelf {
    pub(crate) fn new(
        store: Store,
        hot: Arc<HotCache>,
        healer: Healer,
        disk_reads_max: usize,
    ) -> Self {
        let disk_reads = Semaphore::new(disk_reads_max);
        let (checked, loading) = (Checked::default(), Mutex::default());
        Shelf(Arc::new(Inner { store, hot, healer, disk_reads, checked, loading }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The bytes, if they are in memory.
    pub(crate) fn in_memory(&self, wanted: &Wanted) -> Option<Bytes> {
        self.0.hot.get(&wanted.digest, hot_coding(wanted))
    }

    /// The bytes, from memory or disk, healed if need be.
    pub(crate) async fn get(&self, wanted: Wanted) -> Result<(Found, From), Unavailable> {
        if let Some(bytes) = self.in_memory(&wanted) {
            return Ok((Found::Memory(bytes), From::Memory));
        }
        Ok((self.load(wanted).await?, From::Disk))
    }

    fn load(&self, wanted: Wanted) -> Loading {
        let mut loading = self.0.loading.lock().expect("nothing panics while it holds this map");
        if let Some(others) = loading.get(&wanted) {
            return others.clone();
        }
        let shelf = self.clone();
        // Spawned, so that a visitor who leaves does not take the others' read along.
        let task = tokio::spawn(async move {
            let loaded = shelf.read_or_heal(wanted).await;
            shelf.0.loading.lock().expect("as above").remove(&wanted);
            loaded
        });
        let load = async move { task.await.unwrap_or(Err(Unavailable)) }.boxed().shared();
        loading.insert(wanted, load.clone());
        load
    }

    async fn read_or_heal(&self, wanted: Wanted) -> Result<Found, Unavailable> {
        if let Some(found) = self.read(wanted).await? {
            return Ok(found);
        }
        let missing = Missing { digest: wanted.digest, size_bytes: wanted.size_bytes };
        let healed = self.0.healer.heal(missing).ok_or(Unavailable)?;
        tokio::time::timeout(HEAL_WAIT, healed).await.map_err(|_| Unavailable)?;
        self.read(wanted).await?.ok_or(Unavailable)
    }

    /// `None` when the blob is damaged or gone.
    async fn read(&self, wanted: Wanted) -> Result<Option<Found>, Unavailable> {
        let _turn = self.0.disk_reads.acquire().await.map_err(|_| Unavailable)?;
        let inner = Arc::clone(&self.0);
        let read = spawn_blocking(move || read(&inner, wanted)).await;
        match read.map_err(|_| Unavailable)? {
            Ok(found) => Ok(Some(found)),
            Err(ReadError::Corrupt { .. } | ReadError::Missing { .. }) => Ok(None),
            Err(error) => {
                tracing::error!(
                    error = nigh_daemon::logging::causes(&error),
                    "a blob could not be read"
                );
                Err(Unavailable)
            }
        }
    }
}

const fn hot_coding(wanted: &Wanted) -> Option<ContentCoding> {
    if wanted.is_stored_frame { Some(ContentCoding::Zstd) } else { None }
}

fn read(inner: &Inner, wanted: Wanted) -> Result<Found, ReadError> {
    let Wanted { digest, is_stored_frame, .. } = wanted;
    let stat = inner.store.stat(&digest).ok_or(ReadError::Missing { digest })?;
    if stat.is_loose && !inner.hot.admits(stat.raw_len) {
        let (file, bytes) = inner.store.open_loose(&digest)?;
        if !inner.checked.may_send(&inner.store, &digest, &file, bytes) {
            return Err(ReadError::Corrupt { digest });
        }
        return Ok(Found::File(Arc::new(file)));
    }
    let bytes = if is_stored_frame {
        read_frame(&inner.store, &digest)?
    } else {
        Bytes::from(inner.store.read(&digest)?)
    };
    inner.hot.insert(&digest, hot_coding(&wanted), bytes.clone());
    Ok(Found::Memory(bytes))
}

/// The zstd frame of a packed blob, after a look at what it decodes to.
fn read_frame(store: &Store, digest: &Digest) -> Result<Bytes, ReadError> {
    let body = store.read_stored(digest)?;
    if body.coding != StoredCoding::Zstd {
        return Err(ReadError::Missing { digest: *digest });
    }
    let frame = Bytes::from(body.bytes.clone());
    body.into_raw()?;
    Ok(frame)
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}
