//! Which blobs have been here longest?

use std::time::SystemTime;

use nigh_proto::Digest;

use super::{
    ages::Ages,
    error::FileError,
    store::{Store, UNPOISONED},
};
use std::time::Duration;

/// A file that holds blobs.
#[derive(Clone, Copy, Debug)]
enum Holder {
    Pack(u32),
    Loose(Digest),
}

impl Store {
    /// The blobs of the oldest files, as many as hold `bytes` together: what a cache that is full
    /// does without first.
    ///
    /// # Errors
    ///
    /// The first file that could not be looked at.
    pub fn oldest(&self, bytes: u64) -> Result<Vec<Digest>, FileError> {
        let inner = &*self.inner;
        let (packs, loose): (Vec<_>, Vec<_>) = {
            let index = inner.index.read().expect(UNPOISONED);
            (index.packs().collect(), index.loose().collect())
        };
        let ages = Ages::now(&inner.layout.tmp(), Duration::ZERO)?;
        let mut files: Vec<(SystemTime, u64, Holder)> = Vec::new();
        for (id, length) in packs {
            if let Some(time) = ages.modified(&inner.layout.pack(id))? {
                files.push((time, length, Holder::Pack(id)));
            }
        }
        for (digest, length) in loose {
            if let Some(time) = ages.modified(&inner.layout.loose_blob(&digest))? {
                files.push((time, length, Holder::Loose(digest)));
            }
        }
        files.sort_unstable_by_key(|(time, ..)| *time);
        let mut held = 0;
        let enough = files.iter().take_while(|(_, length, _)| {
            let is_wanted = held < bytes;
            held += length;
            is_wanted
        });
        let mut digests = Vec::new();
        let mut packs = std::collections::HashSet::new();
        for (.., holder) in enough {
            match holder {
                Holder::Pack(id) => _ = packs.insert(*id),
                Holder::Loose(digest) => digests.push(*digest),
            }
        }
        let packed = inner.blobs_of(|id| packs.contains(&id));
        digests.extend(packed.into_values().flatten().map(|(digest, _)| digest));
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_oldest_files_come_first_and_only_as_many_as_needed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blobs = [vec![1; 500], vec![2; 2 << 20], vec![3; 700]];
        let digests: Vec<Digest> = blobs.iter().map(|raw| store.insert(raw).unwrap()).collect();
        // Ages of hours: the test takes no time.
        let old = |path: std::path::PathBuf, hours: u64| {
            let time = SystemTime::now() - Duration::from_secs(hours * 3600);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        old(dir.path().join("packs/00000000.pack"), 1);
        old(store.inner.layout.loose_blob(&digests[1]), 3);
        old(dir.path().join("packs/00000001.pack"), 2);
        assert_eq!(store.oldest(0).unwrap(), []);
        assert_eq!(store.oldest(1).unwrap(), [digests[1]]);
        assert_eq!(store.oldest((2 << 20) + 1).unwrap(), [digests[1], digests[2]]);
        assert_eq!(store.oldest(u64::MAX).unwrap().len(), 3);
    }
}
