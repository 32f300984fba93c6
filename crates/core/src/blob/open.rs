//! What does the folder of a store hold when a process starts?
//!
//! Only heads of packs are read, by several threads since small reads wait more than they work.
//! What a crash left is removed, what is damaged is moved aside; the rest opens.

use std::{
    collections::HashSet,
    fs::DirEntry,
    io::{self, ErrorKind},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use nigh_proto::Digest;
use tracing::error;

use super::{
    drops,
    error::FileError,
    heads::{self, FileHead},
    index::{Index, Location},
    layout::{Layout, PackDirEntry},
    quarantine::quarantine,
};

const THREADS: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) index: Index,
    /// Above every pack that there is or was.
    pub(super) next_pack: u32,
}

/// Reads the folder of a store that nobody else has open.
pub(super) fn read_dir(layout: &Layout) -> Result<Opened, FileError> {
    remove_files(&layout.tmp())?;
    // Notes of drops are made in the folder that they lie in.
    let dir = layout.packs();
    nigh_durable::remove_unfinished(&dir).map_err(FileError::at("clear", &dir))?;
    let (packs, notes) = list_packs(layout)?;
    let next_pack = packs.iter().chain(&notes).max().map_or(0, |id| id.wrapping_add(1));
    let mut index = Index::default();
    let mut opened = read_packs(layout, &packs, &notes)?;
    // A blob that was moved lies in two packs until the older one is gone.
    opened.sort_by_key(|pack| std::cmp::Reverse(pack.id));
    index.reserve(opened.iter().map(|pack| pack.blobs.len()).sum());
    for pack in opened {
        index.add_pack(pack.id, pack.file_bytes, pack.blobs);
    }
    for id in notes.into_iter().filter(|id| packs.binary_search(id).is_err()) {
        let path = layout.drops(id);
        std::fs::remove_file(&path).map_err(FileError::at("remove", path))?;
    }
    for (digest, bytes) in list_loose(layout)? {
        index.add_loose(digest, bytes);
    }
    Ok(Opened { index, next_pack })
}

struct OpenedPack {
    id: u32,
    file_bytes: u64,
    blobs: Vec<(Digest, Location)>,
}

/// The numbers of all packs, sorted, and of those that have a note of drops.
fn list_packs(layout: &Layout) -> Result<(Vec<u32>, HashSet<u32>), FileError> {
    let (mut packs, mut notes) = (Vec::new(), HashSet::new());
    for entry in list(&layout.packs())? {
        match entry.file_name().to_str().and_then(PackDirEntry::parse) {
            Some(PackDirEntry::Pack(id)) => packs.push(id),
            Some(PackDirEntry::Drops(id)) => {
                notes.insert(id);
            }
            None => {}
        }
    }
    packs.sort_unstable();
    Ok((packs, notes))
}

fn read_packs(
    layout: &Layout,
    ids: &[u32],
    notes: &HashSet<u32>,
) -> Result<Vec<OpenedPack>, FileError> {
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut opened = Vec::new();
        while let Some(&id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            opened.extend(read_pack(layout, id, notes.contains(&id))?);
        }
        Ok(opened)
    };
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, read_some);
        let helpers: Vec<_> = (1..THREADS.min(ids.len())).flat_map(spawn).collect();
        let mut opened = read_some()?;
        for helper in helpers {
            opened.extend(helper.join().expect("reading heads does not panic")?);
        }
        Ok(opened)
    })
}

/// `None` when the pack cannot be used; that must not keep the others from being served.
fn read_pack(layout: &Layout, id: u32, has_note: bool) -> Result<Option<OpenedPack>, FileError> {
    let path = layout.pack(id);
    let dropped = if has_note { drops::read(layout, id) } else { Ok(HashSet::new()) };
    match heads::read_file(&path).and_then(|head| Ok((head, dropped?))) {
        Ok((Some(FileHead { head, file_bytes }), dropped)) => {
            let blobs = heads::locate(id, &head).filter(|(digest, _)| !dropped.contains(digest));
            Ok(Some(OpenedPack { id, file_bytes, blobs: blobs.collect() }))
        }
        Ok((None, _)) => quarantine(layout, &path).map(|()| None),
        Err(error) => {
            error!(%error, file.path = %path.display(), "could not read {}; its blobs are missing", path.display());
            Ok(None)
        }
    }
}

/// Every loose blob and its length. They were checked before they had these names.
fn list_loose(layout: &Layout) -> Result<Vec<(Digest, u64)>, FileError> {
    let mut blobs = Vec::new();
    for shard in list(&layout.loose())? {
        if !shard.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        for entry in list(&shard.path())? {
            let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let metadata = entry.metadata().map_err(FileError::at("read", entry.path()))?;
            blobs.push((digest, metadata.len()));
        }
    }
    Ok(blobs)
}

fn remove_files(dir: &Path) -> Result<(), FileError> {
    for entry in list(dir)? {
        std::fs::remove_file(entry.path()).map_err(FileError::at("remove", entry.path()))?;
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<DirEntry>, FileError> {
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<io::Result<_>>);
    match entries {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(FileError::at("list", dir)),
    }
}
