//! Which bytes does nobody need any more, and how is their room given back?
//!
//! A pass may be repeated and interrupted anywhere. It leaves alone what is live, what is young,
//! and what somebody was told to be here since the last pass. New files are durable before blobs
//! are pointed at them, and old ones are removed only after that.

use std::{
    collections::HashMap,
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use nigh_proto::Digest;

use super::{
    ages::Ages,
    error::FileError,
    index::{Found, Location},
    plan::{PackUse, plan},
    rewrite::remove,
    store::{Inner, Store, UNPOISONED},
};

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that are gone.
    pub blobs: u64,
    /// The stored length of those blobs.
    pub bytes: u64,
    /// What the disk got back, less what was written; negative when small packs were only put
    /// together.
    pub freed_bytes: i64,
    /// Live blobs that were found damaged while they were moved, and forgotten.
    pub corrupt: Vec<Digest>,
}

/// The blobs of packs that are old enough, by pack.
pub(super) type Candidates = HashMap<u32, Vec<(Digest, Location)>>;

impl Store {
    /// Drops blobs for which `is_live` does not hold, whose files are older than `young`, and that
    /// nobody was told to be here since the last collection. Room is given back by removing and
    /// rewriting packs. Abandoned uploads of blobs that are not live go as well.
    ///
    /// Inserts and reads go on meanwhile; a second collection waits. Ages are measured by the clock
    /// of the file system. `is_live` is called without a lock, once or more for each blob; it has to
    /// hold for whatever a release, a grace period or an upload that was registered before this call
    /// needs.
    ///
    /// # Errors
    ///
    /// The first file that could not be worked on. What was dropped stays dropped until the store
    /// is opened again, and the next pass goes on. It may write into the disk's reserve, since it
    /// gives back more.
    pub fn collect(
        &self,
        is_live: &dyn Fn(&Digest) -> bool,
        young: Duration,
    ) -> Result<Collected, FileError> {
        let inner = &*self.inner;
        // `is_live` is the caller's and may panic; nothing is guarded that it could leave half done.
        let _alone = inner.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        let ages = Ages::now(&inner.layout.tmp(), young)?;
        let mut collected = Collected::default();
        inner.collect_loose(is_live, &ages, &mut collected)?;
        inner.collect_packs(is_live, &ages, &mut collected)?;
        let is_stale = |digest: &Digest, metadata: &std::fs::Metadata| {
            metadata.modified().is_ok_and(|time| ages.is_old(time)) && !is_live(digest)
        };
        collected.freed_bytes += signed(inner.remove_partials(is_stale)?);
        inner.packs.close_unless(|id| inner.index.read().expect(UNPOISONED).has_pack(id));
        Ok(collected)
    }
}

impl Inner {
    fn collect_loose(
        &self,
        is_live: &dyn Fn(&Digest) -> bool,
        ages: &Ages,
        collected: &mut Collected,
    ) -> Result<(), FileError> {
        let loose: Vec<_> = self.index.read().expect(UNPOISONED).loose().collect();
        for (digest, bytes) in loose {
            if is_live(&digest) {
                self.index.read().expect(UNPOISONED).unwant(&digest);
                continue;
            }
            let path = self.layout.loose_blob(&digest);
            // Held before the age is read: the same blob may go and come again, young.
            let _names = self.loose_names.lock().expect(UNPOISONED);
            if !ages.modified(&path)?.is_some_and(|time| ages.is_old(time)) {
                continue;
            }
            let place = Found::Loose { bytes };
            if self.index.write().expect(UNPOISONED).drop_unwanted(&digest, place) {
                remove(&path)?;
                collected.add(place);
                collected.freed_bytes += signed(bytes);
            }
        }
        Ok(())
    }

    fn collect_packs(
        &self,
        is_live: &dyn Fn(&Digest) -> bool,
        ages: &Ages,
        collected: &mut Collected,
    ) -> Result<(), FileError> {
        let dates = self.old_packs(ages)?;
        let before = self.blobs_of(|id| dates.contains_key(&id));
        let mut dropped: HashMap<u32, Vec<Digest>> = HashMap::new();
        for (&id, blobs) in &before {
            let (live, dead): (Vec<_>, Vec<_>) =
                blobs.iter().partition(|(digest, _)| is_live(digest));
            // One pack at a time, so that readers wait for thousands of blobs at most.
            let mut index = self.index.write().expect(UNPOISONED);
            live.iter().for_each(|(digest, _)| index.unwant(digest));
            for (digest, location) in dead {
                let place = Found::Packed(location);
                if index.drop_unwanted(&digest, place) {
                    collected.add(place);
                    dropped.entry(id).or_default().push(digest);
                }
            }
        }
        drop(before);
        self.give_back(&dates, &dropped, collected)
    }

    /// Removes and rewrites packs, and notes what was dropped from those that stay.
    fn give_back(
        &self,
        dates: &HashMap<u32, SystemTime>,
        dropped: &HashMap<u32, Vec<Digest>>,
        collected: &mut Collected,
    ) -> Result<(), FileError> {
        let live = self.blobs_of(|id| dates.contains_key(&id));
        let plan = plan(&self.uses(dates, &live));
        // First what needs no room: the disk may be full.
        for &id in &plan.remove {
            self.remove_pack(id, collected)?;
        }
        for group in &plan.rewrite {
            let youngest = group.iter().filter_map(|id| dates.get(id)).max();
            self.rewrite(group, youngest.copied(), collected)?;
        }
        for (&id, digests) in dropped {
            if self.index.read().expect(UNPOISONED).has_pack(id) {
                self.note_drops(id, digests)?;
            }
        }
        Ok(())
    }

    /// The packs that are old enough, and when they were made.
    fn old_packs(&self, ages: &Ages) -> Result<HashMap<u32, SystemTime>, FileError> {
        let ids: Vec<_> = self.index.read().expect(UNPOISONED).packs().map(|(id, _)| id).collect();
        let mut old = HashMap::new();
        for id in ids {
            match ages.modified(&self.layout.pack(id))? {
                Some(time) if ages.is_old(time) => {
                    old.insert(id, time);
                }
                Some(_) | None => {}
            }
        }
        Ok(old)
    }

    /// The blobs of some packs.
    pub(super) fn blobs_of(&self, is_asked: impl Fn(u32) -> bool) -> Candidates {
        let mut blobs = Candidates::new();
        let index = self.index.read().expect(UNPOISONED);
        for (digest, location) in index.packed().filter(|(_, location)| is_asked(location.pack)) {
            blobs.entry(location.pack).or_default().push((digest, location));
        }
        blobs
    }

    fn uses(&self, dates: &HashMap<u32, SystemTime>, live: &Candidates) -> Vec<PackUse> {
        let index = self.index.read().expect(UNPOISONED);
        let old = index.packs().filter(|(id, _)| dates.contains_key(id));
        let mut uses: Vec<_> = old
            .map(|(id, file_bytes)| {
                let blobs = live.get(&id).map_or(&[][..], Vec::as_slice);
                PackUse {
                    id,
                    file_bytes,
                    live_blobs: blobs.len(),
                    live_bytes: blobs.iter().map(|(_, at)| u64::from(at.stored_len)).sum(),
                    live_raw_bytes: blobs.iter().map(|(_, at)| u64::from(at.raw_len)).sum(),
                }
            })
            .collect();
        uses.sort_unstable_by_key(|pack| pack.id);
        uses
    }
}

impl Collected {
    fn add(&mut self, dropped: Found) {
        self.blobs += 1;
        self.bytes += dropped.stored_len();
    }
}

/// Lengths of files are far below 2⁶³.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
