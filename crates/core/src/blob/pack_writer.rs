//! How does a batch become one file that is whole or not there?

use std::{io::Write, time::SystemTime};

use nigh_proto::pack::PackHead;
use tempfile::NamedTempFile;

use super::{
    error::FileError,
    heads,
    layout::{Layout, pack_name},
    store::{Inner, UNPOISONED},
};

/// A pack without a name: its head, and bodies as they are checked.
#[derive(Debug)]
pub(super) struct PackWriter {
    head: PackHead,
    file: NamedTempFile,
}

impl PackWriter {
    pub(super) fn create(layout: &Layout, head: PackHead) -> Result<Self, FileError> {
        let tmp = layout.tmp();
        let file = NamedTempFile::new_in(&tmp).map_err(FileError::at("make a file in", tmp))?;
        let mut writer = PackWriter { head, file };
        let head = writer.head.encode();
        writer.append(&head)?;
        Ok(writer)
    }

    /// Appends checked bodies, in the order of the head.
    pub(super) fn append(&mut self, bodies: &[u8]) -> Result<(), FileError> {
        match self.file.as_file_mut().write_all(bodies) {
            Ok(()) => Ok(()),
            Err(error) => Err(FileError::at("write", self.file.path())(error)),
        }
    }

    /// Makes the pack as old as `time`, so that moving blobs does not make them young.
    pub(super) fn backdate(&mut self, time: SystemTime) -> Result<(), FileError> {
        let set = self.file.as_file().set_modified(time);
        set.map_err(FileError::at("date", self.file.path()))
    }

    /// Makes the file last under a new name. The blobs are not visible yet.
    pub(super) fn put(self, inner: &Inner) -> Result<WrittenPack, FileError> {
        let id = inner.next_pack();
        let PackWriter { head, file } = self;
        let dir = inner.layout.packs();
        let put = nigh_durable::put(&dir, &pack_name(id), file);
        put.map_err(FileError::at("store", inner.layout.pack(id)))?;
        Ok(WrittenPack { id, head })
    }
}

/// A pack that lasts; its bodies were checked when they were written.
#[derive(Debug)]
pub(super) struct WrittenPack {
    pub(super) id: u32,
    pub(super) head: PackHead,
}

impl WrittenPack {
    /// Makes its blobs visible; how many of them nobody else stored in the meantime.
    pub(super) fn publish(&self, inner: &Inner) -> u64 {
        let mut index = inner.index.write().expect(UNPOISONED);
        let blobs = heads::locate(self.id, &self.head);
        index.add_pack(self.id, heads::file_len(&self.head), blobs)
    }
}
