//! What lies in the folder: every file and its digest?

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use nigh_proto::{Digest, Entry, Manifest};
use rayon::prelude::*;

use super::{
    digest_cache::{self, DigestCache},
    hash,
    walk::{File, WalkOptions, walk},
};
use crate::{exit::Exit, failure::Failure};

/// A folder as it was when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
    /// How many files were read; the others were known.
    pub(crate) read_total: usize,
}

/// Reads the folder `dir`. With `cache_home` files that did not change since the last time are not
/// read again.
pub(crate) fn read(
    dir: &Path,
    options: &WalkOptions,
    cache_home: Option<&Path>,
) -> Result<Local, Failure> {
    let files = walk(dir, options)?;
    let location = cache_home.map(|home| digest_cache::location(home, dir));
    let cache = location.as_deref().map(DigestCache::load).unwrap_or_default();
    let now_ns = now_ns();
    let read: Vec<_> = files.par_iter().map(|file| read_file(dir, file, &cache)).collect();
    let mut unreadable = Vec::new();
    let mut known = Vec::with_capacity(files.len());
    for (file, read) in files.iter().zip(read) {
        match read {
            Ok(read) => known.push((file, read)),
            Err(error) => unreadable.push(format!("{}: {error}", file.path)),
        }
    }
    if !unreadable.is_empty() {
        return Err(Failure::new(Exit::Failure, format!("{} cannot be read", dir.display()))
            .why(format!("{} of its files cannot be read", unreadable.len()))
            .details(unreadable)
            .hint("check their permissions, or name them in .nighignore"));
    }
    let read_total = known.iter().filter(|(_, read)| !read.is_cached).count();
    if let Some(location) = location.filter(|_| read_total > 0 || cache.is_larger_than(known.len()))
    {
        // A file that changed while it was read has another size than its stamp says.
        let whole = known.iter().filter(|(file, read)| file.stamp.size_bytes == read.size_bytes);
        let cache = DigestCache::of(whole.map(|(file, read)| (*file, read.digest)), now_ns);
        // Without a cache the next push is slower and no less right.
        let _ = cache.save(&location);
    }
    let entries = known.iter().map(|(file, read)| Entry {
        path: file.path.clone(),
        digest: read.digest,
        size_bytes: read.size_bytes,
        content_type: None,
    });
    let manifest = Manifest::new(entries.collect()).map_err(|error| {
        Failure::new(Exit::Invalid, format!("{} cannot be pushed", dir.display())).caused_by(&error)
    })?;
    Ok(Local { dir: dir.to_owned(), manifest, read_total })
}

#[derive(Clone, Copy)]
struct Known {
    digest: Digest,
    size_bytes: u64,
    is_cached: bool,
}

fn read_file(dir: &Path, file: &File, cache: &DigestCache) -> std::io::Result<Known> {
    let size_bytes = file.stamp.size_bytes;
    if let Some(digest) = cache.get(file) {
        return Ok(Known { digest, size_bytes, is_cached: true });
    }
    let (digest, size_bytes) = hash::digest(&dir.join(file.path.as_str()), size_bytes)?;
    Ok(Known { digest, size_bytes, is_cached: false })
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Local {
    /// For each of `digests` one file that has it, with its size, in the order of the manifest.
    pub(crate) fn files_with(&self, digests: &[Digest]) -> Vec<(Digest, PathBuf, u64)> {
        let mut wanted: HashMap<Digest, bool> =
            digests.iter().map(|digest| (*digest, true)).collect();
        let files = self
            .manifest
            .entries()
            .iter()
            .filter(|entry| wanted.get_mut(&entry.digest).is_some_and(std::mem::take));
        files
            .map(|entry| (entry.digest, self.dir.join(entry.path.as_str()), entry.size_bytes))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_once_and_one_copy_of_a_blob_is_sent() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, text) in [("a", "same"), ("b", "same"), ("c", "other")] {
            std::fs::write(dir.path().join(name), text).unwrap();
            // Old enough to be trusted.
            let file = std::fs::File::options().write(true).open(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        let read = || read(dir.path(), &WalkOptions::default(), Some(cache.path())).unwrap();
        let local = read();
        assert_eq!(local.read_total, 3);
        assert_eq!(local.manifest.entries().len(), 3);
        let digests = [Digest::of(b"same"), Digest::of(b"other"), Digest::of(b"unknown")];
        let names: Vec<_> =
            local.files_with(&digests).into_iter().map(|(_, path, _)| path).collect();
        assert_eq!(names, [dir.path().join("a"), dir.path().join("c")]);
    }
}
