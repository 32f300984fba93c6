//! How does a folder of small files become packs?
//!
//! Pure: bytes in, a pack out, so that a command can fill several on as many threads.

use std::fmt;

use nigh_proto::{
    Digest,
    pack::{PackHead, PackedBlob, StoredCoding},
};
use zstd::bulk::Compressor;

/// Shorter bodies cannot save enough to pay for the frame around them.
const COMPRESS_BYTES_MIN: usize = 64;
/// Longer bodies are tried in part first, so that photos and fonts cost nothing.
const SAMPLED_BYTES_MIN: usize = 32 << 10;
const SAMPLE_BYTES: usize = 4 << 10;
const SAMPLE_LEVEL: i32 = 1;

/// A pack that is being filled, in memory.
pub struct PackBuilder {
    zstd: Compressor<'static>,
    sampler: Compressor<'static>,
    head: PackHead,
    bodies: Vec<u8>,
    /// Where a body is compressed before it is known to be worth it; at most one blob.
    scratch: Vec<u8>,
    raw_bytes: u64,
    bytes_max: u64,
    count_max: usize,
}

/// Why a blob was not added to a pack.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Finish this pack and begin another one.
    #[error("the pack is full")]
    Full,
    #[error("blob {digest} has {bytes} bytes; larger ones than {max} travel alone", max = PackHead::MAX_BLOB_BYTES)]
    TooLarge { digest: Digest, bytes: usize },
}

impl PackBuilder {
    /// The stored bytes of all bodies of a pack, unless [`with_limits`](Self::with_limits) says
    /// otherwise: large enough that a batch is worth its syncs, small enough for several at once.
    pub const BYTES_DEFAULT: u64 = 8 << 20;

    /// The raw bytes of all blobs of a pack: what a store agrees to decode for one pack.
    pub const RAW_BYTES_MAX: u64 = 1 << 30;

    /// An empty pack whose bodies are compressed at `level` of zstd.
    pub fn new(level: i32) -> Self {
        PackBuilder {
            zstd: compressor(level),
            sampler: compressor(SAMPLE_LEVEL),
            head: PackHead::default(),
            bodies: Vec::new(),
            scratch: Vec::new(),
            raw_bytes: 0,
            bytes_max: Self::BYTES_DEFAULT,
            count_max: PackHead::MAX_BLOBS,
        }
    }

    /// Holds at most `bytes_max` of bodies and `count_max` blobs, within what a pack may have. A
    /// first blob always fits.
    pub fn with_limits(mut self, bytes_max: u64, count_max: usize) -> Self {
        self.bytes_max = bytes_max.min(PackHead::MAX_BODIES_BYTES);
        self.count_max = count_max.clamp(1, PackHead::MAX_BLOBS);
        self
    }

    /// Adds the blob `raw`, which is called `digest`, compressed when that saves a sixteenth.
    ///
    /// # Errors
    ///
    /// After an error the pack is as it was.
    pub fn push(&mut self, digest: Digest, raw: &[u8]) -> Result<(), PushError> {
        let raw_len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        if raw_len > PackHead::MAX_BLOB_BYTES {
            return Err(PushError::TooLarge { digest, bytes: raw.len() });
        }
        let is_raw_full = self.raw_bytes + u64::from(raw_len) > Self::RAW_BYTES_MAX;
        if self.head.blobs.len() >= self.count_max || is_raw_full {
            return Err(PushError::Full);
        }
        let start = self.bodies.len();
        let coding = self.append(raw);
        let stored_len = self.bodies.len() - start;
        if start > 0 && self.bodies.len() as u64 > self.bytes_max {
            self.bodies.truncate(start);
            return Err(PushError::Full);
        }
        let stored_len = u32::try_from(stored_len).unwrap_or(u32::MAX);
        self.raw_bytes += u64::from(raw_len);
        self.head.blobs.push(PackedBlob { digest, coding, stored_len, raw_len });
        Ok(())
    }

    /// How many blobs it has.
    pub fn len(&self) -> usize {
        self.head.blobs.len()
    }

    /// Whether it has no blob.
    pub fn is_empty(&self) -> bool {
        self.head.blobs.is_empty()
    }

    /// The stored bytes of its bodies.
    pub fn bodies_bytes(&self) -> u64 {
        self.bodies.len() as u64
    }

    /// Whether a blob of `raw_bytes` might not fit any more.
    pub fn is_full_for(&self, raw_bytes: u64) -> bool {
        let is_over = self.bodies_bytes() + raw_bytes > self.bytes_max
            || self.raw_bytes + raw_bytes > Self::RAW_BYTES_MAX;
        self.len() >= self.count_max || (is_over && !self.is_empty())
    }

    /// The pack: head and bodies. The builder is empty afterwards and may be filled again.
    pub fn take(&mut self) -> Vec<u8> {
        let head = std::mem::take(&mut self.head).encode();
        self.raw_bytes = 0;
        let mut pack = Vec::with_capacity(head.len() + self.bodies.len());
        pack.extend_from_slice(&head);
        pack.append(&mut self.bodies);
        pack
    }

    /// The pack: head and bodies.
    pub fn finish(mut self) -> Vec<u8> {
        self.take()
    }

    /// Appends the body of `raw`.
    fn append(&mut self, raw: &[u8]) -> StoredCoding {
        if self.may_shrink(raw) {
            // Room for exactly what is worth it: zstd gives up where compression would not pay.
            let worth_bytes = raw.len() - raw.len() / 16 - 1;
            self.scratch.resize(worth_bytes.max(self.scratch.len()), 0);
            let room = &mut self.scratch[..worth_bytes];
            if let Ok(length) = self.zstd.compress_to_buffer(raw, room) {
                self.bodies.extend_from_slice(&self.scratch[..length]);
                return StoredCoding::Zstd;
            }
        }
        self.bodies.extend_from_slice(raw);
        StoredCoding::Identity
    }

    fn may_shrink(&mut self, raw: &[u8]) -> bool {
        if raw.len() < SAMPLED_BYTES_MIN {
            return raw.len() >= COMPRESS_BYTES_MIN;
        }
        // Some formats hold text behind a compressed beginning, so the middle has a say too.
        let middle = raw.len() / 2;
        [&raw[..SAMPLE_BYTES], &raw[middle..middle + SAMPLE_BYTES]].into_iter().any(|sample| {
            let mut room = [0; SAMPLE_BYTES - SAMPLE_BYTES / 16];
            self.sampler.compress_to_buffer(sample, &mut room[..]).is_ok()
        })
    }
}

/// Content size in the header, no checksum: what zstd does by itself when it sees all of the input.
fn compressor(level: i32) -> Compressor<'static> {
    Compressor::new(level).expect("zstd clamps levels and takes an empty dictionary")
}

impl fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackBuilder")
            .field("blobs", &self.len())
            .field("bodies_bytes", &self.bodies_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that no compressor shrinks.
    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn codings(blobs: &[&[u8]]) -> Vec<StoredCoding> {
        let mut builder = PackBuilder::new(3);
        for raw in blobs {
            builder.push(Digest::of(raw), raw).unwrap();
        }
        let head = PackHead::parse(&builder.finish()).unwrap();
        head.blobs.iter().map(|blob| blob.coding).collect()
    }

    #[test]
    fn bodies_are_compressed_when_that_pays() {
        use StoredCoding::{Identity, Zstd};
        let text = b"words and words and more words ".repeat(10);
        let mostly_text = [noise(200 << 10), vec![b' '; 200 << 10]].concat();
        for (raw, coding) in [
            (&b""[..], Identity),
            (b"aaaaaaaaaaaaaaaa", Identity),
            (&text, Zstd),
            (&noise(1000), Identity),
            (&noise(1 << 20), Identity),
            (&mostly_text, Zstd),
        ] {
            assert_eq!(codings(&[raw]), [coding], "{} bytes", raw.len());
        }
    }

    #[test]
    fn a_pack_holds_no_more_than_it_was_allowed() {
        let mut builder = PackBuilder::new(3).with_limits(2500, 3);
        let raw = noise(1000);
        builder.push(Digest::of(&raw), &raw).unwrap();
        builder.push(Digest::of(&raw), &raw).unwrap();
        assert!(builder.is_full_for(1000) && !builder.is_full_for(10));
        assert!(matches!(builder.push(Digest::of(&raw), &raw), Err(PushError::Full)));
        builder.push(Digest::of(b"x"), b"x").unwrap();
        assert!(matches!(builder.push(Digest::of(b""), b""), Err(PushError::Full)));
        assert_eq!((builder.len(), builder.bodies_bytes()), (3, 2001));
    }

    #[test]
    fn a_first_blob_always_fits_and_a_large_one_never() {
        let mut builder = PackBuilder::new(3).with_limits(10, 10);
        let raw = noise(1000);
        builder.push(Digest::of(&raw), &raw).unwrap();
        let large = noise((1 << 20) + 1);
        let refused = builder.push(Digest::of(&large), &large).unwrap_err();
        assert!(matches!(refused, PushError::TooLarge { .. }));
    }

    #[test]
    fn a_builder_that_was_emptied_makes_the_same_pack_again() {
        let mut builder = PackBuilder::new(3);
        builder.push(Digest::of(b"a"), b"a").unwrap();
        let first = builder.take();
        assert!(builder.is_empty());
        builder.push(Digest::of(b"a"), b"a").unwrap();
        assert_eq!(builder.finish(), first);
        assert_eq!(PackHead::parse(&first).unwrap().blobs[0].digest, Digest::of(b"a"));
    }
}
