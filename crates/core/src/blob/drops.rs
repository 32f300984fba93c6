//! Which blobs of a pack no longer count, although the pack still holds their bytes?
//!
//! Packs are immutable, so a blob that is corrupt or not live any more is noted beside its pack.
//! The note is about that one copy: a blob that is inserted again lies in another pack. It goes
//! when its pack goes.

use std::{collections::HashSet, io};

use nigh_proto::Digest;
use tracing::warn;

use super::{
    error::FileError,
    index::Found,
    layout::Layout,
    quarantine::quarantine,
    store::{Inner, Store, UNPOISONED},
};

impl Store {
    /// Makes a blob whose bytes are known to be bad missing, for good: the same bytes do not come
    /// back with the next start, and a good copy can be inserted. `false` when it was not here.
    ///
    /// # Errors
    ///
    /// When that could not be noted on disk. The blob is missing until the store is opened again.
    pub fn forget(&self, digest: &Digest) -> Result<bool, FileError> {
        self.inner.forget(digest)
    }
}

impl Inner {
    pub(super) fn forget(&self, digest: &Digest) -> Result<bool, FileError> {
        let _names = self.loose_names.lock().expect(UNPOISONED);
        let found = self.index.write().expect(UNPOISONED).remove(digest);
        match found {
            None => return Ok(false),
            Some(Found::Packed(location)) => self.note_drops(location.pack, &[*digest])?,
            Some(Found::Loose { .. }) => {
                let path = self.layout.loose_blob(digest);
                quarantine(&self.layout, &path)?;
            }
        }
        warn!(blob.digest = %digest, "blob {digest} is damaged and was taken out of the store");
        Ok(true)
    }

    /// Adds `digests` to the note of pack `id`.
    pub(super) fn note_drops(&self, id: u32, digests: &[Digest]) -> Result<(), FileError> {
        let path = self.layout.drops(id);
        let _notes = self.drop_notes.lock().expect(UNPOISONED);
        let note = nigh_durable::read_optional(&path).map_err(FileError::at("read", &path))?;
        let mut note = note.unwrap_or_default();
        for digest in digests {
            note.extend_from_slice(digest.to_string().as_bytes());
            note.push(b'\n');
        }
        nigh_durable::write(&path, &note).map_err(FileError::at("write", &path))
    }
}

/// The blobs of pack `id` that do not count.
pub(super) fn read(layout: &Layout, id: u32) -> io::Result<HashSet<Digest>> {
    let note = nigh_durable::read_optional(&layout.drops(id))?.unwrap_or_default();
    Ok(parse(&note))
}

/// One digest a line. Notes are replaced whole, so another line is somebody's edit; it says nothing.
fn parse(note: &[u8]) -> HashSet<Digest> {
    String::from_utf8_lossy(note).lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_are_no_digest_say_nothing() {
        let digest = Digest::of(b"one");
        let note = format!("\nhello\n{digest}\n{digest}x\n\u{fffd}\n");
        assert_eq!(parse(note.as_bytes()), HashSet::from([digest]));
    }

    proptest! {
        #[test]
        fn any_note_is_read(note in proptest::collection::vec(any::<u8>(), 0..500)) {
            parse(&note);
        }
    }
}
