//! How do thousands of small files become a few packs, on every core and in bounded memory?

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nigh_core::blob::{PackBuilder, PushError};
use nigh_proto::Digest;
use tokio::sync::mpsc;

/// A file that is to be packed: what it should hold, where it is, how large it was.
pub(crate) type Wanted = (Digest, PathBuf, u64);

/// Why packing ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The file is not what it was when it was hashed.
    #[error("{} changed while it was pushed", .path.display())]
    Changed { path: PathBuf },
}

/// A finished pack.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) bytes: Vec<u8>,
    /// The size of its blobs before they were compressed.
    pub(crate) raw_bytes: u64,
}

/// The fastest level: whoever pushes is waiting, and better variants are made afterwards. Higher levels
/// were not compared.
const ZSTD_LEVEL: i32 = 1;
/// What one pack aims at: small enough that several are on their way at once.
const PACK_BYTES: u64 = 8 << 20;
const PACK_BLOBS: usize = 4096;
/// How many threads fill packs; each holds one.
const THREADS_MAX: usize = 8;

/// Reads and packs `files`; full packs go to `out`, which makes slow uploads slow the packing.
///
/// Blocks; ends early when `out` is closed.
pub(crate) fn pack(files: &[Wanted], out: &mpsc::Sender<Pack>) -> Result<(), PackError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    // A thread for a handful of files costs more than it saves.
    let threads = threads.min(files.len().div_ceil(64)).max(1);
    let work = Work {
        files,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = work.fill_packs(out) {
                    work.fail(error);
                }
            });
        }
    });
    match work.error.into_inner().expect("no thread panics while it holds the error") {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct Work<'a> {
    files: &'a [Wanted],
    next: AtomicUsize,
    is_over: AtomicBool,
    error: Mutex<Option<PackError>>,
}

impl Work<'_> {
    fn fill_packs(&self, out: &mpsc::Sender<Pack>) -> Result<(), PackError> {
        let mut raw_bytes = 0;
        let mut builder = PackBuilder::new(ZSTD_LEVEL).with_limits(PACK_BYTES, PACK_BLOBS);
        while let Some((digest, path, _)) = self.next() {
            let changed = || PackError::Changed { path: path.clone() };
            let bytes = std::fs::read(path).map_err(|_| changed())?;
            if Digest::of(&bytes) != *digest {
                return Err(changed());
            }
            if let Err(PushError::Full) = builder.push(*digest, &bytes) {
                self.send(&mut builder, std::mem::take(&mut raw_bytes), out);
                // A first blob always fits, and one that is too large was hashed as a smaller one.
                builder.push(*digest, &bytes).map_err(|_| changed())?;
            }
            raw_bytes += bytes.len() as u64;
        }
        self.send(&mut builder, raw_bytes, out);
        Ok(())
    }

    fn next(&self) -> Option<&Wanted> {
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        self.files.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn send(&self, builder: &mut PackBuilder, raw_bytes: u64, out: &mpsc::Sender<Pack>) {
        if builder.is_empty() {
            return;
        }
        if out.blocking_send(Pack { bytes: builder.take(), raw_bytes }).is_err() {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn fail(&self, error: PackError) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut first = self.error.lock().expect("no thread panics while it holds the error");
        first.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nigh_proto::pack::PackHead;

    use super::*;

    fn files(dir: &std::path::Path, count: usize) -> Vec<Wanted> {
        (0..count)
            .map(|index| {
                let (path, text) = (dir.join(index.to_string()), format!("file {index}"));
                std::fs::write(&path, &text).unwrap();
                (Digest::of(text.as_bytes()), path, text.len() as u64)
            })
            .collect()
    }

    #[test]
    fn every_file_is_in_exactly_one_pack() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 10_000);
        let (sender, mut receiver) = mpsc::channel(100);
        pack(&files, &sender).unwrap();
        drop(sender);
        let (mut digests, mut total) = (BTreeSet::new(), 0);
        while let Some(pack) = receiver.blocking_recv() {
            let head = PackHead::parse(&pack.bytes).unwrap();
            assert!(head.blobs.len() <= PACK_BLOBS);
            total += head.blobs.len();
            digests.extend(head.blobs.iter().map(|blob| blob.digest));
        }
        assert_eq!((digests.len(), total), (10_000, 10_000));
    }

    #[test]
    fn a_file_that_changed_or_vanished_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 3);
        let (sender, _receiver) = mpsc::channel(100);
        std::fs::write(&files[1].1, "other").unwrap();
        let Err(PackError::Changed { path }) = pack(&files, &sender) else { panic!("not noticed") };
        assert_eq!(path, files[1].1);
        std::fs::remove_file(&files[1].1).unwrap();
        assert!(matches!(pack(&files, &sender), Err(PackError::Changed { .. })));
    }
}
