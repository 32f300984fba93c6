//! What a store promises, tested through its public face.

mod collecting;
mod corruption;
mod crashes;
mod inserting;
mod killed;
mod partials;
mod reading;
mod scale;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nigh_proto::Digest;
use tempfile::TempDir;

use super::{PackBuilder, Store, StoreOptions};

/// A store in a folder of its own that can be closed and opened again.
struct Fixture {
    dir: TempDir,
    store: Option<Store>,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Fixture { dir: tempfile::tempdir().unwrap(), store: None };
        fixture.reopen();
        fixture
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the store and starts another one on what it left.
    fn reopen(&mut self) -> &Store {
        self.reopen_with(StoreOptions { reserve_bytes: Some(0), ..StoreOptions::default() })
    }

    fn reopen_with(&mut self, options: StoreOptions) -> &Store {
        self.store = None;
        self.store.insert(Store::open_with(self.dir.path(), options).unwrap())
    }

    /// The files in a folder of the store, sorted.
    fn files(&self, dir: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root().join(dir)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The one file in a folder of the store.
    fn file(&self, dir: &str) -> PathBuf {
        let files = self.files(dir);
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    /// Makes everything that is stored look a day old.
    fn age(&self) {
        let loose = self
            .files("loose")
            .into_iter()
            .flat_map(|shard| std::fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path()));
        let files = self.files("packs").into_iter().chain(self.files("partial")).chain(loose);
        for path in files {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A blob of `length` bytes that compresses, different for each seed.
fn text(seed: u64, length: usize) -> Vec<u8> {
    format!("line {seed} of a page that compresses\n").bytes().cycle().take(length).collect()
}

/// A blob of `length` bytes that does not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn pack(blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = PackBuilder::new(3).with_limits(u64::MAX, usize::MAX);
    for raw in blobs {
        builder.push(Digest::of(raw), raw).unwrap();
    }
    builder.finish()
}
