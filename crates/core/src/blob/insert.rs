//! How do bytes get into the store?

use std::{
    collections::HashSet,
    io::{Read, Write},
};

use nigh_proto::{Digest, pack::PackHead};
use tempfile::NamedTempFile;

use super::{
    builder::{PackBuilder, PushError},
    error::{FileError, InsertError},
    heads,
    pack_writer::PackWriter,
    receive::{Incoming, ReceiveError, receive},
    store::{Inner, Store, UNPOISONED},
};

/// For what a role itself writes; pushed folders choose their own level.
const LEVEL: i32 = 3;

/// What an insert changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Blobs that are new.
    pub stored: u64,
    /// Blobs that were here, or came twice.
    pub already_present: u64,
    /// The stored length of the new blobs.
    pub bytes: u64,
}

impl Store {
    /// Takes the pack that `reader` yields, up to its end.
    ///
    /// After `Ok` all of its blobs are here and survive a power cut; after `Err` none of its new
    /// blobs is visible. Bodies of blobs that are here already are passed over unread. A blob that
    /// was here when the pack began can be gone at its end only if two collections ran meanwhile;
    /// who needs to know asks [`missing`](Self::missing) afterwards.
    ///
    /// # Errors
    ///
    /// Any [`InsertError`] but `Busy` and `PastEnd`.
    pub fn insert_pack(&self, reader: impl Read) -> Result<Inserted, InsertError> {
        self.insert_pack_named(reader).map(|(inserted, _)| inserted)
    }

    /// As [`insert_pack`](Self::insert_pack); also says which blobs the pack has.
    ///
    /// # Errors
    ///
    /// Any [`InsertError`] but `Busy` and `PastEnd`.
    pub fn insert_pack_named(
        &self,
        mut reader: impl Read,
    ) -> Result<(Inserted, Vec<Digest>), InsertError> {
        let head = heads::read(&mut reader)?;
        let digests = head.blobs.iter().map(|blob| blob.digest).collect();
        self.insert_bodies(reader, &head).map(|inserted| (inserted, digests))
    }

    fn insert_bodies(
        &self,
        mut reader: impl Read,
        head: &PackHead,
    ) -> Result<Inserted, InsertError> {
        let raw_bytes = heads::raw_bytes(head);
        let max_bytes = PackBuilder::RAW_BYTES_MAX;
        if raw_bytes > max_bytes {
            return Err(InsertError::TooMuch { raw_bytes, max_bytes });
        }
        let incoming = self.inner.incoming(head);
        let new = incoming.iter().filter(|incoming| !incoming.is_present);
        let kept = PackHead { blobs: new.map(|incoming| incoming.blob).collect() };
        if kept.blobs.is_empty() {
            receive(&mut reader, &incoming, 1, |_| Ok(()))
                .map_err(|error| self.inner.receive_error(error, 0))?;
            return Ok(Inserted { already_present: incoming.len() as u64, ..Inserted::default() });
        }
        self.inner.store_pack(reader, &incoming, kept)
    }

    /// Takes one blob of any size and returns its digest.
    ///
    /// # Errors
    ///
    /// `Full` or `Write`.
    pub fn insert(&self, raw: &[u8]) -> Result<Digest, InsertError> {
        Ok(self.insert_many(&[raw])?[0])
    }

    /// Takes blobs of any size and returns their digests in the same order; small ones share packs.
    ///
    /// # Errors
    ///
    /// `Full` or `Write`; some of the blobs may be here then.
    pub fn insert_many<B: AsRef<[u8]>>(&self, blobs: &[B]) -> Result<Vec<Digest>, InsertError> {
        let mut builder = PackBuilder::new(LEVEL);
        let mut digests = Vec::with_capacity(blobs.len());
        for raw in blobs.iter().map(AsRef::as_ref) {
            let digest = Digest::of(raw);
            digests.push(digest);
            if self.inner.want(&digest) {
                continue;
            }
            if raw.len() > PackHead::MAX_BLOB_BYTES as usize {
                self.inner.store_loose(digest, raw)?;
                continue;
            }
            if let Err(PushError::Full) = builder.push(digest, raw) {
                self.insert_pack(&builder.take()[..])?;
                builder.push(digest, raw).expect("a small blob fits into an empty pack");
            }
        }
        if !builder.is_empty() {
            self.insert_pack(&builder.finish()[..])?;
        }
        Ok(digests)
    }
}

impl Inner {
    /// Which blobs of a pack are new: not here, and not listed before in the same pack.
    fn incoming(&self, head: &PackHead) -> Vec<Incoming> {
        let mut seen = HashSet::with_capacity(head.blobs.len());
        let index = self.index.read().expect(UNPOISONED);
        head.blobs
            .iter()
            .map(|&blob| {
                let is_present = index.want(&blob.digest) || !seen.insert(blob.digest);
                Incoming { blob, is_present }
            })
            .collect()
    }

    fn store_pack(
        &self,
        mut reader: impl Read,
        incoming: &[Incoming],
        kept: PackHead,
    ) -> Result<Inserted, InsertError> {
        let file_bytes = heads::file_len(&kept);
        let bytes = kept.bodies_bytes();
        let _room = self.disk.promise(file_bytes)?;
        let full = |source| self.disk.write_error(source, file_bytes);
        let mut writer = PackWriter::create(&self.layout, kept).map_err(full)?;
        receive(&mut reader, incoming, self.verify_threads, |bodies| writer.append(bodies))
            .map_err(|error| self.receive_error(error, file_bytes))?;
        let stored = writer.put(self).map_err(full)?.publish(self);
        Ok(Inserted { stored, already_present: incoming.len() as u64 - stored, bytes })
    }

    fn receive_error(&self, error: ReceiveError, needed_bytes: u64) -> InsertError {
        match error {
            ReceiveError::Bodies(error) => error,
            ReceiveError::Write(source) => self.disk.write_error(source, needed_bytes),
        }
    }

    /// Stores `raw`, which the caller has hashed, as a file of its own.
    fn store_loose(&self, digest: Digest, raw: &[u8]) -> Result<(), InsertError> {
        let bytes = raw.len() as u64;
        let _room = self.disk.promise(bytes)?;
        self.write_loose(digest, raw).map_err(|source| self.disk.write_error(source, bytes))
    }

    fn write_loose(&self, digest: Digest, raw: &[u8]) -> Result<(), FileError> {
        let tmp = self.layout.tmp();
        let mut file = NamedTempFile::new_in(&tmp).map_err(FileError::at("make a file in", tmp))?;
        let written = file.write_all(raw).and_then(|()| file.as_file().sync_all());
        written.map_err(FileError::at("write", file.path()))?;
        self.publish_loose(digest, raw.len() as u64, |dir| {
            nigh_durable::put(dir, &digest.to_string(), file)
        })
    }

    /// Lets `put` give a synced file its name in the folder it is told, and makes the blob visible.
    pub(super) fn publish_loose(
        &self,
        digest: Digest,
        bytes: u64,
        put: impl FnOnce(&std::path::Path) -> std::io::Result<()>,
    ) -> Result<(), FileError> {
        let dir = self.layout.loose_shard(&digest);
        let _names = self.loose_names.lock().expect(UNPOISONED);
        nigh_durable::create_dir(&dir).map_err(FileError::at("create", &dir))?;
        put(&dir).map_err(FileError::at("store", self.layout.loose_blob(&digest)))?;
        self.index.write().expect(UNPOISONED).add_loose(digest, bytes);
        Ok(())
    }
}
