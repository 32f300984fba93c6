//! How are live blobs moved out of packs that hold too little else?
//!
//! The new pack is durable before a blob is pointed at it, and an old one is removed only after
//! all of its blobs have left. Damage is not carried along: every body is checked on its way.

use std::{io::ErrorKind, path::Path, time::SystemTime};

use nigh_proto::{Digest, pack::PackHead};

use super::{
    codec::Decoder,
    collect::{Collected, signed},
    error::FileError,
    heads,
    index::Location,
    pack_files::is_damage,
    pack_writer::PackWriter,
    store::{Inner, UNPOISONED},
};

impl Inner {
    /// Moves what is live in the packs `ids` into one new pack and removes them.
    pub(super) fn rewrite(
        &self,
        ids: &[u32],
        date: Option<SystemTime>,
        collected: &mut Collected,
    ) -> Result<(), FileError> {
        let moved = loop {
            let mut live: Vec<_> =
                self.blobs_of(|id| ids.contains(&id)).into_values().flatten().collect();
            live.sort_unstable_by_key(|(_, at)| (at.pack, at.offset));
            match self.copy(&live, date)? {
                Copied::Whole(bytes) => break bytes,
                // Each round has one blob less.
                Copied::Corrupt(digest) => {
                    self.forget(&digest)?;
                    collected.corrupt.push(digest);
                }
            }
        };
        collected.freed_bytes -= signed(moved);
        ids.iter().try_for_each(|&id| self.remove_pack(id, collected))
    }

    /// Copies `blobs` into a new pack and points them at it.
    fn copy(
        &self,
        blobs: &[(Digest, Location)],
        date: Option<SystemTime>,
    ) -> Result<Copied, FileError> {
        if blobs.is_empty() {
            return Ok(Copied::Whole(0));
        }
        let head =
            PackHead { blobs: blobs.iter().map(|&(digest, at)| at.packed(digest)).collect() };
        let file_bytes = heads::file_len(&head);
        let mut writer = PackWriter::create(&self.layout, head)?;
        let mut decoder = Decoder::default();
        for &(digest, location) in blobs {
            match self.checked_body(&mut decoder, digest, location)? {
                Some(body) => writer.append(&body)?,
                None => return Ok(Copied::Corrupt(digest)),
            }
        }
        if let Some(date) = date {
            writer.backdate(date)?;
        }
        let pack = writer.put(self)?;
        let mut index = self.index.write().expect(UNPOISONED);
        index.add_pack(pack.id, file_bytes, []);
        for ((digest, new), &(_, old)) in heads::locate(pack.id, &pack.head).zip(blobs) {
            // One that was forgotten in the meantime stays so until the next start; its copy here
            // was checked.
            index.relocate(&digest, old, new);
        }
        Ok(Copied::Whole(file_bytes))
    }

    /// The stored body of a blob, `None` when it is damaged.
    fn checked_body(
        &self,
        decoder: &mut Decoder,
        digest: Digest,
        location: Location,
    ) -> Result<Option<Vec<u8>>, FileError> {
        match self.packs.read(location) {
            Ok(body) => {
                let is_whole = decoder.verify(&location.packed(digest), &body).is_ok();
                Ok(is_whole.then_some(body))
            }
            // Only this collection removes packs, so one that is gone was removed by hand.
            Err(error) if is_damage(&error) || error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::at("read", self.layout.pack(location.pack))(error)),
        }
    }

    /// Removes a pack in which no blob is left.
    pub(super) fn remove_pack(&self, id: u32, collected: &mut Collected) -> Result<(), FileError> {
        // Nothing points at an old pack anew, so nobody can come between these.
        let bytes = self.index.write().expect(UNPOISONED).remove_pack(id).unwrap_or(0);
        remove(&self.layout.pack(id))?;
        remove(&self.layout.drops(id))?;
        self.packs.close_unless(|open| open != id);
        collected.freed_bytes += signed(bytes);
        Ok(())
    }
}

/// How a copy ended.
enum Copied {
    /// With so many bytes written.
    Whole(u64),
    /// Before it began to count, at a damaged blob.
    Corrupt(Digest),
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(FileError::at("remove", path)),
    }
}
