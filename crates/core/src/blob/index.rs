//! Which blobs are here, and where?
//!
//! Everything a store knows about its blobs is in this one value, made from the heads of packs and
//! the names of files. It does no I/O, so it can be asked and changed under a short lock.
//!
//! Each blob carries a *wanted* mark. Whoever is told that a blob is present may rely on it before
//! anything that `collect` can see names it: an upload skips it, and its release comes later. The
//! mark keeps such a blob through one collection, which clears it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use nigh_proto::{
    Digest,
    pack::{PackedBlob, StoredCoding},
};

/// Where the body of a packed blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) pack: u32,
    /// From the start of the pack file.
    pub(super) offset: u32,
    pub(super) stored_len: u32,
    pub(super) raw_len: u32,
}

impl Location {
    pub(super) fn coding(self) -> StoredCoding {
        // A head with a zstd body that saves nothing is refused, so the lengths tell.
        if self.stored_len == self.raw_len { StoredCoding::Identity } else { StoredCoding::Zstd }
    }

    pub(super) fn packed(self, digest: Digest) -> PackedBlob {
        let Location { stored_len, raw_len, .. } = self;
        PackedBlob { digest, coding: self.coding(), stored_len, raw_len }
    }
}

/// What a digest stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Packed(Location),
    Loose { bytes: u64 },
}

impl Found {
    pub(super) fn stored_len(self) -> u64 {
        match self {
            Found::Packed(location) => u64::from(location.stored_len),
            Found::Loose { bytes } => bytes,
        }
    }
}

/// [`Location`] and the wanted mark, in 16 bytes.
#[derive(Debug)]
struct Packed {
    pack: u32,
    offset: u32,
    stored_len: u32,
    raw_len_and_mark: AtomicU32,
}

/// Raw lengths of packed blobs are far below this bit.
const WANTED: u32 = 1 << 31;

impl Packed {
    fn new(location: Location, is_wanted: bool) -> Self {
        let Location { pack, offset, stored_len, raw_len } = location;
        let mark = if is_wanted { WANTED } else { 0 };
        Packed { pack, offset, stored_len, raw_len_and_mark: AtomicU32::new(raw_len | mark) }
    }

    fn location(&self) -> Location {
        let Packed { pack, offset, stored_len, .. } = *self;
        let raw_len = self.raw_len_and_mark.load(Ordering::Relaxed) & !WANTED;
        Location { pack, offset, stored_len, raw_len }
    }

    fn is_wanted(&self) -> bool {
        self.raw_len_and_mark.load(Ordering::Relaxed) & WANTED != 0
    }
}

#[derive(Debug)]
struct Loose {
    bytes: u64,
    is_wanted: AtomicBool,
}

/// All blobs of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    packed: HashMap<Digest, Packed>,
    loose: HashMap<Digest, Loose>,
    /// The length of each pack file.
    packs: HashMap<u32, u64>,
    stored_bytes: u64,
}

impl Index {
    pub(super) fn find(&self, digest: &Digest) -> Option<Found> {
        match self.packed.get(digest) {
            Some(packed) => Some(Found::Packed(packed.location())),
            None => self.loose.get(digest).map(|loose| Found::Loose { bytes: loose.bytes }),
        }
    }

    /// Whether the blob is here; if so it outlives the next collection.
    pub(super) fn want(&self, digest: &Digest) -> bool {
        if let Some(packed) = self.packed.get(digest) {
            // The lock that guards the index orders this with `drop_unwanted`, which is exclusive.
            packed.raw_len_and_mark.fetch_or(WANTED, Ordering::Relaxed);
            true
        } else if let Some(loose) = self.loose.get(digest) {
            loose.is_wanted.store(true, Ordering::Relaxed);
            true
        } else {
            false
        }
    }

    /// Clears the mark of a blob that a collection found to be live.
    ///
    /// Whoever set the mark had named the blob somewhere before, and the next collection will look
    /// there.
    pub(super) fn unwant(&self, digest: &Digest) {
        if let Some(packed) = self.packed.get(digest) {
            packed.raw_len_and_mark.fetch_and(!WANTED, Ordering::Relaxed);
        } else if let Some(loose) = self.loose.get(digest) {
            loose.is_wanted.store(false, Ordering::Relaxed);
        }
    }

    /// Adds a pack of `file_bytes`; blobs that are here already keep their place.
    ///
    /// Returns how many blobs are new.
    pub(super) fn add_pack(
        &mut self,
        id: u32,
        file_bytes: u64,
        blobs: impl IntoIterator<Item = (Digest, Location)>,
    ) -> u64 {
        self.packs.insert(id, file_bytes);
        let mut added = 0;
        for (digest, location) in blobs {
            if self.find(&digest).is_none() {
                self.packed.insert(digest, Packed::new(location, false));
                self.stored_bytes += u64::from(location.stored_len);
                added += 1;
            }
        }
        added
    }

    pub(super) fn add_loose(&mut self, digest: Digest, bytes: u64) {
        if self.find(&digest).is_none() {
            self.loose.insert(digest, Loose { bytes, is_wanted: AtomicBool::new(false) });
            self.stored_bytes += bytes;
        }
    }

    /// Makes the blob missing.
    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Found> {
        let found = match self.packed.remove(digest) {
            Some(packed) => Found::Packed(packed.location()),
            None => self.loose.remove(digest).map(|loose| Found::Loose { bytes: loose.bytes })?,
        };
        self.stored_bytes -= found.stored_len();
        Some(found)
    }

    /// Makes the blob missing if it is still at `place`, whatever its mark.
    pub(super) fn remove_from(&mut self, digest: &Digest, place: Found) -> bool {
        self.find(digest) == Some(place) && self.remove(digest).is_some()
    }

    /// Makes the blob missing if it is still at `place` and nobody asked for it since the last
    /// collection; clears the mark otherwise.
    pub(super) fn drop_unwanted(&mut self, digest: &Digest, place: Found) -> bool {
        let was_wanted = match (self.packed.get(digest), self.loose.get(digest)) {
            (Some(packed), _) => {
                packed.raw_len_and_mark.fetch_and(!WANTED, Ordering::Relaxed) & WANTED != 0
            }
            (None, Some(loose)) => loose.is_wanted.swap(false, Ordering::Relaxed),
            (None, None) => return false,
        };
        !was_wanted && self.remove_from(digest, place)
    }

    /// Points a packed blob from `old` to `new`, unless it has left `old` in the meantime.
    pub(super) fn relocate(&mut self, digest: &Digest, old: Location, new: Location) -> bool {
        match self.packed.get_mut(digest) {
            Some(packed) if packed.location() == old => {
                *packed = Packed::new(new, packed.is_wanted());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Forgets that the pack exists; its length if it did. No blob may be in it any more.
    pub(super) fn remove_pack(&mut self, id: u32) -> Option<u64> {
        self.packs.remove(&id)
    }

    pub(super) fn has_pack(&self, id: u32) -> bool {
        self.packs.contains_key(&id)
    }

    /// Every pack and the length of its file.
    pub(super) fn packs(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.packs.iter().map(|(&id, &bytes)| (id, bytes))
    }

    pub(super) fn packed(&self) -> impl Iterator<Item = (Digest, Location)> + '_ {
        self.packed.iter().map(|(&digest, packed)| (digest, packed.location()))
    }

    pub(super) fn loose(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.loose.iter().map(|(&digest, loose)| (digest, loose.bytes))
    }

    pub(super) fn blobs(&self) -> u64 {
        (self.packed.len() + self.loose.len()) as u64
    }

    /// The stored length of all blobs together.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Room for `blobs` more, so that opening does not grow the table step by step.
    pub(super) fn reserve(&mut self, blobs: usize) {
        self.packed.reserve(blobs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(pack: u32) -> Location {
        Location { pack, offset: 60, stored_len: 10, raw_len: 20 }
    }

    fn with_one() -> (Index, Digest) {
        let (mut index, digest) = (Index::default(), Digest::of(b"one"));
        assert_eq!(index.add_pack(1, 70, [(digest, location(1))]), 1);
        (index, digest)
    }

    #[test]
    fn a_wanted_blob_outlives_one_collection_and_not_two() {
        let (mut index, digest) = with_one();
        assert!(index.want(&digest));
        assert!(!index.drop_unwanted(&digest, Found::Packed(location(1))));
        assert_eq!(index.find(&digest), Some(Found::Packed(location(1))));
        assert!(index.drop_unwanted(&digest, Found::Packed(location(1))));
        assert_eq!(index.find(&digest), None);
        assert_eq!(index.stored_bytes(), 0);
    }

    #[test]
    fn a_blob_that_moved_is_not_dropped_from_its_old_place() {
        let (mut index, digest) = with_one();
        assert!(index.relocate(&digest, location(1), location(2)));
        assert!(!index.relocate(&digest, location(1), location(3)));
        assert!(!index.drop_unwanted(&digest, Found::Packed(location(1))));
        assert_eq!(index.find(&digest), Some(Found::Packed(location(2))));
    }

    #[test]
    fn a_move_keeps_the_mark() {
        let (mut index, digest) = with_one();
        index.want(&digest);
        index.relocate(&digest, location(1), location(2));
        assert!(!index.drop_unwanted(&digest, Found::Packed(location(2))));
    }

    #[test]
    fn a_blob_that_comes_twice_is_counted_once() {
        let (mut index, digest) = with_one();
        assert_eq!(index.add_pack(2, 70, [(digest, location(2))]), 0);
        index.add_loose(digest, 20);
        assert_eq!((index.blobs(), index.stored_bytes()), (1, 10));
        assert_eq!(index.find(&digest), Some(Found::Packed(location(1))));
    }

    #[test]
    fn loose_blobs_are_marked_and_dropped_alike() {
        let (mut index, digest) = (Index::default(), Digest::of(b"large"));
        index.add_loose(digest, 2_000_000);
        assert!(index.want(&digest));
        let place = Found::Loose { bytes: 2_000_000 };
        assert!(!index.drop_unwanted(&digest, place));
        assert!(index.drop_unwanted(&digest, place));
        assert_eq!((index.blobs(), index.stored_bytes()), (0, 0));
    }

    #[test]
    fn an_entry_takes_48_bytes() {
        assert_eq!(size_of::<(Digest, Packed)>(), 48);
    }
}
