//! Which bodies stay in an edge's memory?
//!
//! [`HotCache`] holds small bodies by blob and coding, never more bytes than it was given. What
//! is asked for once and never again does not push out what is asked for often (`quick_cache`:
//! Clock-PRO, close to S3-FIFO). Blobs never change, so nothing here can be stale.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use nigh_proto::{Digest, variants::ContentCoding};
use quick_cache::{Weighter, sync::Cache};
use serde::{Deserialize, Serialize};

/// How much of an edge's memory may hold response bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotCacheConfig {
    /// Total size of all bodies held.
    pub capacity_bytes: u64,
    /// Bodies larger than this always come from disk.
    pub body_bytes_max: u64,
}

impl Default for HotCacheConfig {
    fn default() -> Self {
        Self { capacity_bytes: 256 << 20, body_bytes_max: 1 << 20 }
    }
}

/// A blob as it is (`None`), or in one coding. The digest is that of the raw blob.
pub type HotKey = (Digest, Option<ContentCoding>);

/// Counters since the start, and what is held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotUsage {
    pub hits: u64,
    pub misses: u64,
    pub bodies: u64,
    /// Bodies and the cost of keeping them.
    pub bytes: u64,
    pub capacity_bytes: u64,
}

/// Bodies in memory, shared by all tasks of an edge.
#[derive(Debug)]
pub struct HotCache {
    bodies: Cache<HotKey, Bytes, ByLength>,
    body_bytes_max: u64,
    capacity_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What an entry costs beside its bytes: key, handle and table slot.
const ENTRY_BYTES: u64 = 128;

#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<HotKey, Bytes> for ByLength {
    fn weight(&self, _key: &HotKey, body: &Bytes) -> u64 {
        body.len() as u64 + ENTRY_BYTES
    }
}

impl HotCache {
    /// An empty cache. A capacity of 0 holds nothing.
    pub fn new(config: &HotCacheConfig) -> Self {
        let HotCacheConfig { capacity_bytes, body_bytes_max } = *config;
        // Only a first guess for the size of tables, which grow.
        let expected = usize::try_from(capacity_bytes / (16 << 10)).unwrap_or(1 << 16);
        HotCache {
            bodies: Cache::with_weighter(expected.clamp(64, 1 << 16), capacity_bytes, ByLength),
            body_bytes_max,
            capacity_bytes,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The body, if it is held. Counts a hit or a miss.
    pub fn get(&self, digest: &Digest, coding: Option<ContentCoding>) -> Option<Bytes> {
        let body = self.bodies.get(&(*digest, coding));
        let counter = if body.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        body
    }

    /// Whether a body of `size_bytes` may be held at all: only then is it read whole.
    pub fn admits(&self, size_bytes: u64) -> bool {
        size_bytes <= self.body_bytes_max && size_bytes + ENTRY_BYTES <= self.capacity_bytes
    }

    /// Offers a body. One that is too large is not taken; another may be dropped for it.
    ///
    /// `body` must own its bytes alone: a slice of a larger buffer would keep all of that alive
    /// while only the slice is counted.
    pub fn insert(&self, digest: &Digest, coding: Option<ContentCoding>, body: Bytes) {
        if self.admits(body.len() as u64) {
            self.bodies.insert((*digest, coding), body);
        }
    }

    /// Drops every form of a blob, for one that was found corrupt.
    pub fn remove(&self, digest: &Digest) {
        for coding in [None].into_iter().chain(ContentCoding::ALL.map(Some)) {
            self.bodies.remove(&(*digest, coding));
        }
    }

    /// Counters for metrics.
    pub fn usage(&self) -> HotUsage {
        HotUsage {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bodies: self.bodies.len() as u64,
            bytes: self.bodies.weight(),
            capacity_bytes: self.capacity_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn cache(capacity_bytes: u64, body_bytes_max: u64) -> HotCache {
        HotCache::new(&HotCacheConfig { capacity_bytes, body_bytes_max })
    }

    #[test]
    fn forms_of_one_blob_are_held_apart() {
        let cache = cache(1 << 20, 1 << 10);
        cache.insert(&digest(1), None, Bytes::from_static(b"plain"));
        cache.insert(&digest(1), Some(ContentCoding::Br), Bytes::from_static(b"br"));
        assert_eq!(cache.get(&digest(1), None).unwrap(), "plain");
        assert_eq!(cache.get(&digest(1), Some(ContentCoding::Br)).unwrap(), "br");
        assert_eq!(cache.get(&digest(1), Some(ContentCoding::Gzip)), None);
        let usage = cache.usage();
        assert_eq!((usage.hits, usage.misses, usage.bodies), (2, 1, 2));

        cache.remove(&digest(1));
        assert_eq!(cache.get(&digest(1), None), None);
        assert_eq!(cache.usage().bytes, 0);
    }

    #[test]
    fn never_more_bytes_are_held_than_the_capacity() {
        let cache = cache(100_000, 10_000);
        for number in 0..1000 {
            cache.insert(&digest(number), None, Bytes::from(vec![0; 997]));
            assert!(cache.usage().bytes <= 100_000);
        }
        assert!(cache.usage().bodies > 50, "{:?}", cache.usage());
    }

    #[test]
    fn a_body_that_is_too_large_never_enters() {
        let cache = cache(100_000, 1000);
        cache.insert(&digest(1), None, Bytes::from(vec![0; 1001]));
        assert_eq!(cache.get(&digest(1), None), None);
        assert!(cache.admits(1000) && !cache.admits(1001));
        assert!(!self::cache(0, 1000).admits(0));
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_asked_for_often() {
        let cache = cache(200_000, 10_000);
        for number in 0..50 {
            cache.insert(&digest(number), None, Bytes::from(vec![0; 1000]));
        }
        for round in 0..20 {
            for number in 0..50 {
                let _ = cache.get(&digest(number), None);
            }
            for scanned in 0..100 {
                let once = digest(1000 + round * 100 + scanned);
                cache.insert(&once, None, Bytes::from(vec![0; 1000]));
            }
        }
        let kept = (0..50).filter(|number| cache.get(&digest(*number), None).is_some()).count();
        assert!(kept >= 40, "{kept} of 50 are still held");
    }
}
