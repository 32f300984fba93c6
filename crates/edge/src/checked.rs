//! Were the bytes of a large blob looked at since its file last changed?
//!
//! Small blobs are checked whenever they are read into memory. Large ones are sent from their file,
//! so they are read through once before the first visitor gets them, and again when the file's times
//! say that somebody wrote to it. Bits that turn over in silence are for the scrub (`upkeep`).

use std::{collections::HashMap, fs::File, io, os::unix::fs::MetadataExt, sync::Mutex};

use nigh_core::blob::Store;
use nigh_proto::Digest;

/// Larger blobs are sent unchecked: reading one through would keep a visitor waiting.
const CHECK_MAX_BYTES: u64 = 256 << 20;
/// How many blobs are remembered; then all are forgotten, and checked again.
const KNOWN_MAX: usize = 16_384;

/// Blobs that were found whole; 80 bytes each.
#[derive(Debug, Default)]
pub(crate) struct Checked(Mutex<HashMap<Digest, Stamp>>);

/// What changes when a file is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Stamp {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Checked {
    /// Whether the large blob `digest`, which `file` holds, may be sent. Reads all of it unless it
    /// was found whole before.
    pub(crate) fn may_send(&self, store: &Store, digest: &Digest, file: &File, bytes: u64) -> bool {
        let Ok(stamp) = Stamp::of(file) else { return false };
        let is_known = |known: &HashMap<Digest, Stamp>| known.get(digest) == Some(&stamp);
        if bytes > CHECK_MAX_BYTES || is_known(&self.known()) {
            return true;
        }
        let is_whole = store.verify(digest);
        if is_whole {
            let mut known = self.known();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(*digest, stamp);
        }
        is_whole
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Stamp>> {
        self.0.lock().expect("nothing panics while it holds this map")
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::FileExt};

    use super::*;

    #[test]
    fn a_large_blob_that_was_written_to_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let bytes = vec![7; 2 << 20];
        let digest = store.insert(&bytes).unwrap();
        let checked = Checked::default();
        let may_send = || {
            let (file, bytes) = store.open_loose(&digest).unwrap();
            checked.may_send(&store, &digest, &file, bytes)
        };
        assert!(may_send() && may_send());

        let shard = format!("{:02x}", digest.as_bytes()[0]);
        let path = dir.path().join("loose").join(shard).join(digest.to_string());
        let mut file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&[8], 1 << 20).unwrap();
        assert!(!may_send());
        file.write_all(&bytes).unwrap();
        assert!(may_send(), "whole again");
    }
}
