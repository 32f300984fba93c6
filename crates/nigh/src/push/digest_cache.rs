//! Which digests are known from an earlier push, so that unchanged files are not read again?
//!
//! One file for each folder below the user's cache. It is a hint: a file that is missing, cut, or not
//! ours is no cache at all, and every byte of it is covered by a checksum.
//!
//! ```text
//! "nighdig1" | count u32 | count × entry | BLAKE3 of all before
//! entry: path length u16 | path | size u64 | mtime i64 | ctime i64 | inode u64 | device u64 | digest
//! ```

use std::{
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use nigh_proto::Digest;

use super::walk::{File, Stamp};

const MAGIC: &[u8; 8] = b"nighdig1";
/// The largest cache that is read: a million files with long names.
const MAX_BYTES: u64 = 1 << 30;
/// A file that changed this shortly before it was read could change again within the same tick of its
/// clock, and nobody would see it (git calls that racily clean).
const RACY_NS: i64 = 2_000_000_000;

/// Digests by path, each with the stamp of the file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DigestCache {
    entries: HashMap<Box<str>, (Stamp, Digest)>,
}

impl DigestCache {
    /// The digest of `file`, if it has not changed since it was read.
    pub(crate) fn get(&self, file: &File) -> Option<Digest> {
        let (stamp, digest) = self.entries.get(file.path.as_str())?;
        (*stamp == file.stamp).then_some(*digest)
    }

    /// Whether it still knows files that are gone.
    pub(crate) fn is_larger_than(&self, files_total: usize) -> bool {
        self.entries.len() > files_total
    }

    /// What is known of these files, which were read at `now_ns` or later.
    pub(crate) fn of<'a>(files: impl Iterator<Item = (&'a File, Digest)>, now_ns: i64) -> Self {
        let is_settled =
            |stamp: &Stamp| stamp.mtime_ns.max(stamp.ctime_ns).saturating_add(RACY_NS) < now_ns;
        let settled = files.filter(|(file, _)| is_settled(&file.stamp));
        let entry =
            |(file, digest): (&File, Digest)| (file.path.as_str().into(), (file.stamp, digest));
        Self { entries: settled.map(entry).collect() }
    }

    /// Reads the cache of a folder; an empty one when there is none that can be trusted.
    pub(crate) fn load(path: &Path) -> Self {
        let is_small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
        let bytes = if is_small { std::fs::read(path).ok() } else { None };
        bytes.and_then(|bytes| Self::decode(&bytes)).unwrap_or_default()
    }

    /// Replaces the cache of a folder in one step. Not synced: what a power cut leaves is checked.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().ok_or_else(|| io::Error::other("a cache lies in a folder"))?;
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&self.encode())?;
        file.persist(path)?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(path, _)| *path);
        let mut bytes = Vec::with_capacity(64 + entries.len() * 128);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(0).to_le_bytes());
        for (path, (stamp, digest)) in entries {
            let Ok(length) = u16::try_from(path.len()) else { continue };
            let Stamp { size_bytes, mtime_ns, ctime_ns, inode, device } = stamp;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(path.as_bytes());
            for number in [*size_bytes, *mtime_ns as u64, *ctime_ns as u64, *inode, *device] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(digest.as_bytes());
        }
        let sum = Digest::of(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<{ Digest::BYTES }>()?;
        if Digest::of(body).as_bytes() != sum {
            return None;
        }
        let mut reader = Reader(body.strip_prefix(MAGIC)?);
        let count = u32::from_le_bytes(reader.take()?);
        let mut entries = HashMap::with_capacity((count as usize).min(body.len() / 74));
        for _ in 0..count {
            let (path, entry) = reader.entry()?;
            entries.insert(path, entry);
        }
        reader.0.is_empty().then_some(Self { entries })
    }
}

/// Where the cache of `dir` lies.
pub(crate) fn location(cache_home: &Path, dir: &Path) -> PathBuf {
    let name = Digest::of(dir.as_os_str().as_encoded_bytes()).to_string();
    cache_home.join("nigh").join("digests").join(&name[..32])
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn entry(&mut self) -> Option<(Box<str>, (Stamp, Digest))> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (path, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let path = std::str::from_utf8(path).ok()?.into();
        let mut number = || self.take().map(u64::from_le_bytes);
        let stamp = Stamp {
            size_bytes: number()?,
            mtime_ns: number()? as i64,
            ctime_ns: number()? as i64,
            inode: number()?,
            device: number()?,
        };
        Some((path, (stamp, Digest::from_bytes(self.take()?))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, mtime_ns: i64) -> File {
        let stamp = Stamp { size_bytes: 3, mtime_ns, ctime_ns: mtime_ns, inode: 7, device: 1 };
        File { path: path.parse().unwrap(), stamp }
    }

    #[test]
    fn a_file_that_changed_in_any_way_is_read_again() {
        let known = file("a", 5);
        let cache = DigestCache::of([(&known, Digest::of(b"a"))].into_iter(), i64::MAX);
        assert_eq!(cache.get(&known), Some(Digest::of(b"a")));
        for change in [
            |stamp: &mut Stamp| stamp.size_bytes += 1,
            |stamp: &mut Stamp| stamp.mtime_ns += 1,
            |stamp: &mut Stamp| stamp.ctime_ns += 1,
            |stamp: &mut Stamp| stamp.inode += 1,
            |stamp: &mut Stamp| stamp.device += 1,
        ] {
            let mut changed = known.clone();
            change(&mut changed.stamp);
            assert_eq!(cache.get(&changed), None);
        }
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_trusted() {
        let now = 10 * RACY_NS;
        let (old, new) = (file("old", now - RACY_NS - 1), file("new", now - RACY_NS));
        let digest = Digest::of(b"");
        let cache = DigestCache::of([(&old, digest), (&new, digest)].into_iter(), now);
        assert_eq!(cache.get(&old), Some(digest));
        assert_eq!(cache.get(&new), None);
    }

    #[test]
    fn a_cache_that_was_cut_or_changed_is_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = location(dir.path(), Path::new("/site"));
        let known = file("a", 5);
        let cache = DigestCache::of([(&known, Digest::of(b"a"))].into_iter(), i64::MAX);
        cache.save(&path).unwrap();
        assert_eq!(DigestCache::load(&path), cache);

        let bytes = std::fs::read(&path).unwrap();
        for index in 0..bytes.len() {
            std::fs::write(&path, &bytes[..index]).unwrap();
            assert_eq!(DigestCache::load(&path), DigestCache::default());
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert_eq!(DigestCache::load(&path), DigestCache::default());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(DigestCache::load(&path), DigestCache::default());
    }

    proptest! {
        #[test]
        fn any_cache_round_trips(
            files in proptest::collection::btree_map("[a-zé ]{1,20}", any::<[u64; 5]>(), 0..40)
        ) {
            let entries = files.into_iter().map(|(path, [size_bytes, mtime, ctime, inode, device])| {
                let digest = Digest::of(path.as_bytes());
                let stamp = Stamp {
                    size_bytes, mtime_ns: mtime as i64, ctime_ns: ctime as i64, inode, device,
                };
                (path.into_boxed_str(), (stamp, digest))
            });
            let cache = DigestCache { entries: entries.collect() };
            prop_assert_eq!(DigestCache::decode(&cache.encode()), Some(cache));
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(body);
            let sum = Digest::of(&bytes);
            bytes.extend(sum.as_bytes());
            let _ = DigestCache::decode(&bytes);
        }
    }
}
