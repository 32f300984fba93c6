//! Is there room for these bytes, and enough left for everyone else?
//!
//! A disk that fills up stops logs, databases and the machine. So a store refuses new blobs while
//! some space is left, counting what inserts under way have been promised.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::error::{FileError, InsertError};

const RESERVE_BYTES_DEFAULT: u64 = 256 << 20;

/// The disk that a store lies on.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    reserve_bytes: u64,
    promised_bytes: AtomicU64,
}

/// Room that was promised to one insert, until it is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    disk: Arc<Disk>,
    bytes: u64,
}

impl Disk {
    /// Keeps `reserve_bytes` free; unless set, what suits the size of the disk.
    pub(super) fn new(dir: &Path, reserve_bytes: Option<u64>) -> Result<Self, FileError> {
        let space = nigh_durable::space(dir).map_err(FileError::at("measure", dir))?;
        let reserve_bytes =
            reserve_bytes.unwrap_or(RESERVE_BYTES_DEFAULT.min(space.total_bytes / 100));
        Ok(Disk { dir: dir.to_owned(), reserve_bytes, promised_bytes: AtomicU64::new(0) })
    }

    /// Sets `bytes` aside, or says that the disk is full before it is.
    pub(super) fn promise(self: &Arc<Self>, bytes: u64) -> Result<Promise, InsertError> {
        let free_bytes = self.free_bytes().map_err(|source| InsertError::Write { source })?;
        let promised_bytes = self.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
        let promise = Promise { disk: Arc::clone(self), bytes };
        let room_bytes = room(free_bytes, self.reserve_bytes, promised_bytes);
        if bytes > room_bytes {
            return Err(InsertError::Full { needed_bytes: bytes, free_bytes: room_bytes });
        }
        Ok(promise)
    }

    /// A failed write as an error: a disk that filled up in spite of the reserve is full as well.
    pub(super) fn write_error(&self, source: FileError, needed_bytes: u64) -> InsertError {
        if source.is_full() {
            InsertError::Full { needed_bytes, free_bytes: self.free_bytes().unwrap_or(0) }
        } else {
            InsertError::Write { source }
        }
    }

    fn free_bytes(&self) -> Result<u64, FileError> {
        nigh_durable::free_bytes(&self.dir).map_err(FileError::at("measure", &self.dir))
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.disk.promised_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What may still be promised. Inserts under way have written some of what they were promised, so
/// this errs towards an early refusal.
const fn room(free_bytes: u64, reserve_bytes: u64, promised_bytes: u64) -> u64 {
    free_bytes.saturating_sub(reserve_bytes).saturating_sub(promised_bytes)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn neither_the_reserve_nor_a_promise_is_given_away() {
        for (free, reserve, promised, expected) in
            [(100, 0, 0, 100), (100, 30, 0, 70), (100, 30, 70, 0), (100, 200, 0, 0), (5, 3, 9, 0)]
        {
            assert_eq!(room(free, reserve, promised), expected);
        }
    }

    #[test]
    fn a_promise_ends_with_its_insert() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::new(dir.path(), Some(0)).unwrap());
        let most = disk.free_bytes().unwrap() / 2 + (1 << 30);
        let first = disk.promise(most).unwrap();
        assert!(matches!(disk.promise(most), Err(InsertError::Full { .. })));
        drop(first);
        disk.promise(most).unwrap();
    }

    #[test]
    fn a_disk_that_fills_up_while_it_is_written_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path(), None).unwrap();
        for (kind, is_full) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            let error = disk.write_error(FileError::at("write", "x")(kind.into()), 10);
            assert_eq!(matches!(error, InsertError::Full { needed_bytes: 10, .. }), is_full);
        }
    }
}
