//! How do many small blobs travel and lie on disk together?
//!
//! A pack is a head, which lists the blobs, and their bodies in the same order. The same bytes are
//! uploaded, kept in a store and sent to edges, so a body is compressed once, where it was pushed.
//!
//! ```text
//! "nighpack" | version u32 = 1 | count u32 | count × blob | bodies
//! blob: digest 32 bytes | coding u8 | 3 zero bytes | stored length u32 | raw length u32
//! ```
//!
//! Numbers are little-endian. Digests are of raw bytes; a reader still has to check each body
//! against its digest, with room for no more than `raw_len` bytes.

use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"nighpack";
const VERSION: u32 = 1;

/// How a body is stored in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredCoding {
    /// The raw bytes.
    Identity,
    /// One zstd frame (RFC 8878) that states its content size; may be served as
    /// `Content-Encoding: zstd` as it is.
    Zstd,
}

/// One blob of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedBlob {
    pub digest: Digest,
    pub coding: StoredCoding,
    /// Length of the body in the pack.
    pub stored_len: u32,
    /// Length of the blob itself.
    pub raw_len: u32,
}

/// The head of a pack: which blobs follow, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackHead {
    pub blobs: Vec<PackedBlob>,
}

/// Why bytes are not a pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPack {
    #[error("a pack begins with \"nighpack\" and version 1")]
    Magic,
    #[error("a pack holds at most {max} blobs, not {count}", max = PackHead::MAX_BLOBS)]
    TooMany { count: usize },
    #[error("the pack ends within its head")]
    Truncated,
    #[error("blob {index} has a coding or padding that version 1 does not know")]
    Coding { index: usize },
    #[error("blob {digest} has {raw_len} bytes; larger ones than {max} travel alone", max = PackHead::MAX_BLOB_BYTES)]
    BlobTooLarge { digest: Digest, raw_len: u32 },
    #[error("blob {digest} has a stored length that does not fit its raw length")]
    StoredLength { digest: Digest },
    #[error("the bodies have {bytes} bytes, more than the {max} of one pack", max = PackHead::MAX_BODIES_BYTES)]
    TooLarge { bytes: u64 },
}

impl PackHead {
    /// How many blobs one pack may hold.
    pub const MAX_BLOBS: usize = 65_536;
    /// The largest blob that may be packed; larger ones travel and lie alone.
    pub const MAX_BLOB_BYTES: u32 = 1 << 20;
    /// The size of all stored bodies of one pack together.
    pub const MAX_BODIES_BYTES: u64 = 64 << 20;
    /// Bytes before the list of blobs.
    pub const PREFIX_BYTES: usize = 16;
    /// Bytes of one blob in the list.
    pub const BLOB_BYTES: usize = 44;

    /// How many blobs the pack that begins with `prefix` lists.
    pub fn count(prefix: &[u8; Self::PREFIX_BYTES]) -> Result<usize, InvalidPack> {
        let (magic, numbers) = prefix.split_at(8);
        if magic != MAGIC || read_u32(numbers) != VERSION {
            return Err(InvalidPack::Magic);
        }
        let count = read_u32(&numbers[4..]) as usize;
        if count > Self::MAX_BLOBS { Err(InvalidPack::TooMany { count }) } else { Ok(count) }
    }

    /// Length of the whole head of a pack with `count` blobs.
    pub const fn head_bytes(count: usize) -> usize {
        Self::PREFIX_BYTES + count * Self::BLOB_BYTES
    }

    /// Reads the head at the start of `bytes`; what follows it is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPack> {
        let prefix = bytes.first_chunk().ok_or(InvalidPack::Truncated)?;
        let count = Self::count(prefix)?;
        let list =
            bytes.get(Self::PREFIX_BYTES..Self::head_bytes(count)).ok_or(InvalidPack::Truncated)?;
        let blobs = list
            .chunks_exact(Self::BLOB_BYTES)
            .enumerate()
            .map(|(index, blob)| parse_blob(index, blob))
            .collect::<Result<Vec<_>, _>>()?;
        let head = PackHead { blobs };
        let bytes = head.bodies_bytes();
        if bytes > Self::MAX_BODIES_BYTES { Err(InvalidPack::TooLarge { bytes }) } else { Ok(head) }
    }

    /// The head as bytes; the bodies follow it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::head_bytes(self.blobs.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.blobs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for blob in &self.blobs {
            bytes.extend_from_slice(blob.digest.as_bytes());
            let coding = match blob.coding {
                StoredCoding::Identity => 0,
                StoredCoding::Zstd => 1,
            };
            bytes.extend_from_slice(&[coding, 0, 0, 0]);
            bytes.extend_from_slice(&blob.stored_len.to_le_bytes());
            bytes.extend_from_slice(&blob.raw_len.to_le_bytes());
        }
        bytes
    }

    /// The length of all bodies together.
    pub fn bodies_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| u64::from(blob.stored_len)).sum()
    }
}

fn parse_blob(index: usize, bytes: &[u8]) -> Result<PackedBlob, InvalidPack> {
    let digest = Digest::from_bytes(*bytes.first_chunk().ok_or(InvalidPack::Truncated)?);
    let coding = match bytes[32..36] {
        [0, 0, 0, 0] => StoredCoding::Identity,
        [1, 0, 0, 0] => StoredCoding::Zstd,
        _ => return Err(InvalidPack::Coding { index }),
    };
    let (stored_len, raw_len) = (read_u32(&bytes[36..]), read_u32(&bytes[40..]));
    if raw_len > PackHead::MAX_BLOB_BYTES {
        return Err(InvalidPack::BlobTooLarge { digest, raw_len });
    }
    let fits = match coding {
        StoredCoding::Identity => stored_len == raw_len,
        StoredCoding::Zstd => stored_len < raw_len,
    };
    if fits {
        Ok(PackedBlob { digest, coding, stored_len, raw_len })
    } else {
        Err(InvalidPack::StoredLength { digest })
    }
}

/// The number at the start of `bytes`, which every caller has sized.
fn read_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(seed: u8, coding: StoredCoding, stored_len: u32, raw_len: u32) -> PackedBlob {
        PackedBlob { digest: Digest::of(&[seed]), coding, stored_len, raw_len }
    }

    #[test]
    fn a_pack_that_lies_about_lengths_is_refused() {
        for (coding, stored_len, raw_len) in [
            (StoredCoding::Identity, 3, 4),
            (StoredCoding::Zstd, 4, 4),
            (StoredCoding::Zstd, 4, PackHead::MAX_BLOB_BYTES + 1),
        ] {
            let head = PackHead { blobs: vec![blob(1, coding, stored_len, raw_len)] };
            assert!(PackHead::parse(&head.encode()).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_truncated_head_is_refused() {
        let bytes = PackHead { blobs: vec![blob(1, StoredCoding::Zstd, 3, 4)] }.encode();
        for length in 0..bytes.len() {
            assert!(PackHead::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn heads_round_trip(seeds in proptest::collection::vec((any::<u8>(), 1u32..1_000_000), 0..50)) {
            let blobs = seeds.into_iter().map(|(seed, len)| match seed % 2 {
                0 => blob(seed, StoredCoding::Identity, len, len),
                _ => blob(seed, StoredCoding::Zstd, len - 1, len),
            });
            let head = PackHead { blobs: blobs.collect() };
            prop_assert_eq!(PackHead::parse(&head.encode()).unwrap(), head);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PackHead::parse(&tail);
            let mut bytes = b"nighpack\x01\0\0\0\x02\0\0\0".to_vec();
            bytes.extend(tail);
            let _ = PackHead::parse(&bytes);
        }
    }
}
