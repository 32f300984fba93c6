//! What does a caller hold to keep and read blobs?

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use nigh_durable::StateDir;
use nigh_proto::{Digest, pack::StoredCoding};
use serde::Deserialize;

use super::{
    disk::Disk,
    error::OpenError,
    index::{Found, Index},
    layout::Layout,
    open,
    pack_files::PackFiles,
};

/// What a store may use of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// How much of the disk stays free. Unless set: 256 MiB, or 1 % of a disk under 25 GiB.
    pub reserve_bytes: Option<u64>,
    /// How many pack files are kept open for reading.
    pub open_packs_max: usize,
    /// How many threads check one pack; 0 is one for each core, up to eight.
    pub verify_threads: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { reserve_bytes: None, open_packs_max: 256, verify_threads: 0 }
    }
}

/// Immutable blobs by digest, in a folder that this process alone works in.
///
/// A clone is another handle to the same store; the folder is free again when the last one and the
/// last [`Partial`](super::Partial) are gone. Every method may wait for the disk, so asynchronous
/// callers run them on a thread that may block. No lock is held while a blob is read.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) layout: Arc<Layout>,
    pub(super) index: RwLock<Index>,
    pub(super) packs: PackFiles,
    pub(super) disk: Arc<Disk>,
    pub(super) verify_threads: usize,
    next_pack: AtomicU32,
    /// Held while the name of a loose blob is made or removed, so that an insert and a collection
    /// of the same blob cannot cross. Readers never take it.
    pub(super) loose_names: Mutex<()>,
    /// Held while the note of dropped blobs of a pack is replaced.
    pub(super) drop_notes: Mutex<()>,
    /// One collection at a time.
    pub(super) collecting: Mutex<()>,
    /// Whose partial is being written.
    pub(super) writers: Mutex<HashSet<Digest>>,
    _lock: StateDir,
}

/// How a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobStat {
    pub raw_len: u64,
    /// What [`Store::read_stored`] would give, in bytes.
    pub stored_len: u64,
    pub coding: StoredCoding,
    /// Whether it has a file of its own.
    pub is_loose: bool,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub blobs: u64,
    /// The stored length of all blobs together.
    pub bytes: u64,
    /// Files of packs and loose blobs, with what is waiting to be collected.
    pub disk_bytes: u64,
    pub packs: u64,
}

impl Store {
    /// Opens the store in `dir`, making it if it is missing, with [`StoreOptions::default`].
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or read, or another store has it open.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, StoreOptions::default())
    }

    /// Opens the store in `dir`, making it if it is missing. Only heads of packs are read.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or read, or another store has it open.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let lock = StateDir::lock(dir)?;
        let layout = Arc::new(Layout::new(dir));
        layout.create()?;
        let opened = open::read_dir(&layout)?;
        let disk = Disk::new(dir, options.reserve_bytes)?;
        let inner = Inner {
            packs: PackFiles::new(Arc::clone(&layout), options.open_packs_max),
            layout,
            index: RwLock::new(opened.index),
            disk: Arc::new(disk),
            verify_threads: verify_threads(options.verify_threads),
            next_pack: AtomicU32::new(opened.next_pack),
            loose_names: Mutex::default(),
            drop_notes: Mutex::default(),
            collecting: Mutex::default(),
            writers: Mutex::default(),
            _lock: lock,
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Whether the blob is here.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.inner.find(digest).is_some()
    }

    /// How the blob is kept, `None` when it is not here.
    pub fn stat(&self, digest: &Digest) -> Option<BlobStat> {
        Some(match self.inner.find(digest)? {
            Found::Packed(location) => BlobStat {
                raw_len: u64::from(location.raw_len),
                stored_len: u64::from(location.stored_len),
                coding: location.coding(),
                is_loose: false,
            },
            Found::Loose { bytes } => BlobStat {
                raw_len: bytes,
                stored_len: bytes,
                coding: StoredCoding::Identity,
                is_loose: true,
            },
        })
    }

    /// Those of `digests` that are not here, each once, in the order they were named.
    ///
    /// The caller may leave out the others: a blob that was answered to be here outlives the next
    /// [`collect`](Self::collect), live or not.
    pub fn missing<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Vec<Digest> {
        let mut seen = HashSet::new();
        let unique: Vec<_> = digests.into_iter().filter(|digest| seen.insert(**digest)).collect();
        let index = self.inner.index.read().expect(UNPOISONED);
        unique.into_iter().filter(|digest| !index.want(digest)).copied().collect()
    }

    /// Every blob, in no order.
    pub fn digests(&self) -> Vec<Digest> {
        let index = self.inner.index.read().expect(UNPOISONED);
        let packed = index.packed().map(|(digest, _)| digest);
        packed.chain(index.loose().map(|(digest, _)| digest)).collect()
    }

    /// How much the store holds.
    pub fn usage(&self) -> Usage {
        let index = self.inner.index.read().expect(UNPOISONED);
        let packs = index.packs().map(|(_, bytes)| bytes).sum::<u64>();
        let loose = index.loose().map(|(_, bytes)| bytes).sum::<u64>();
        Usage {
            blobs: index.blobs(),
            bytes: index.stored_bytes(),
            disk_bytes: packs + loose,
            packs: index.packs().count() as u64,
        }
    }
}

impl Inner {
    pub(super) fn find(&self, digest: &Digest) -> Option<Found> {
        self.index.read().expect(UNPOISONED).find(digest)
    }

    pub(super) fn want(&self, digest: &Digest) -> bool {
        self.index.read().expect(UNPOISONED).want(digest)
    }

    /// A number that no pack has. It starts over after four billion batches.
    pub(super) fn next_pack(&self) -> u32 {
        loop {
            let id = self.next_pack.fetch_add(1, Ordering::Relaxed);
            if !self.index.read().expect(UNPOISONED).has_pack(id) {
                return id;
            }
        }
    }
}

/// Why locks are not expected to be poisoned.
pub(super) const UNPOISONED: &str = "nothing panics while it holds a lock of the store";

fn verify_threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8)),
        wanted => wanted.min(64),
    }
}
