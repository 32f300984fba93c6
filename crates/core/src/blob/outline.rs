//! Which pieces is a large blob made of, and is this one of them?
//!
//! BLAKE3 is a tree: the chaining values of aligned pieces, of a power of two of its chunks, make the
//! digest when they are joined in pairs (the BLAKE3 paper, section 2.1). So a list of them is checked
//! against the digest alone, whoever sent it, and each piece against the list as soon as it is here.

use std::io::{self, Read};

use blake3::{
    Hasher,
    hazmat::{
        ChainingValue, HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root,
        merge_subtrees_root,
    },
};
use nigh_proto::Digest;

/// The bytes of each piece but the last; a power of two of BLAKE3's chunks of 1024.
pub const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of each value in the list.
const VALUE_BYTES: usize = 32;

/// The pieces of a blob that has more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    size_bytes: u64,
    values: Vec<ChainingValue>,
}

impl Outline {
    /// Reads a blob of `size_bytes`; `None` when it has only one piece.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or ends early.
    pub fn read(from: &mut impl Read, size_bytes: u64) -> io::Result<Option<Self>> {
        if size_bytes <= PIECE_BYTES {
            return Ok(None);
        }
        let mut piece = Vec::new();
        let mut values = Vec::new();
        for index in 0..size_bytes.div_ceil(PIECE_BYTES) {
            let length = PIECE_BYTES.min(size_bytes - index * PIECE_BYTES);
            piece.clear();
            if from.by_ref().take(length).read_to_end(&mut piece)? as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            values.push(value(index, &piece));
        }
        Ok(Some(Self { size_bytes, values }))
    }

    /// The list as it is sent: 32 bytes for each piece.
    pub fn encode(&self) -> Vec<u8> {
        self.values.concat()
    }

    /// How long the list of a blob of `size_bytes` is.
    pub fn encoded_bytes(size_bytes: u64) -> u64 {
        size_bytes.div_ceil(PIECE_BYTES) * VALUE_BYTES as u64
    }

    /// A list that somebody sent, if it is that of the blob.
    pub fn parse(bytes: &[u8], digest: &Digest, size_bytes: u64) -> Option<Self> {
        if size_bytes <= PIECE_BYTES || bytes.len() as u64 != Self::encoded_bytes(size_bytes) {
            return None;
        }
        let (values, _) = bytes.as_chunks::<VALUE_BYTES>();
        let outline = Self { size_bytes, values: values.to_vec() };
        (outline.digest() == *digest).then_some(outline)
    }

    /// Whether `bytes` are the whole piece that begins at `offset`.
    pub fn is_piece(&self, offset: u64, bytes: &[u8]) -> bool {
        let Ok(index) = usize::try_from(offset / PIECE_BYTES) else { return false };
        offset.is_multiple_of(PIECE_BYTES)
            && bytes.len() as u64 == self.piece_bytes(offset)
            && self.values.get(index) == Some(&value(offset / PIECE_BYTES, bytes))
    }

    /// The length of the piece that begins at `offset`.
    pub fn piece_bytes(&self, offset: u64) -> u64 {
        PIECE_BYTES.min(self.size_bytes.saturating_sub(offset))
    }

    fn digest(&self) -> Digest {
        let left_bytes = left_subtree_len(self.size_bytes);
        let (left, right) = self.values.split_at((left_bytes / PIECE_BYTES) as usize);
        let (left, right) = (join(left, left_bytes), join(right, self.size_bytes - left_bytes));
        merge_subtrees_root(&left, &right, Mode::Hash).into()
    }
}

/// The chaining value of a piece that is not the whole blob.
fn value(index: u64, piece: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(index * PIECE_BYTES);
    hasher.update(piece).finalize_non_root()
}

/// The value of a tree of `bytes` whose pieces have these values. As deep as the logarithm of their
/// number.
fn join(values: &[ChainingValue], bytes: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let left_bytes = left_subtree_len(bytes);
    let (left, right) = values.split_at((left_bytes / PIECE_BYTES) as usize);
    merge_subtrees_non_root(&join(left, left_bytes), &join(right, bytes - left_bytes), Mode::Hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_pieces_of_a_blob_make_its_digest_at_every_length() {
        let piece = PIECE_BYTES as usize;
        assert_eq!(Outline::read(&mut &noise(piece)[..], PIECE_BYTES).unwrap(), None);
        for length in [
            piece + 1,
            2 * piece - 1,
            2 * piece,
            2 * piece + 1024,
            3 * piece,
            5 * piece + 7,
            8 * piece,
        ] {
            let blob = noise(length);
            let outline = Outline::read(&mut &blob[..], length as u64).unwrap().unwrap();
            let list = outline.encode();
            let parsed = Outline::parse(&list, &Digest::of(&blob), length as u64).unwrap();
            assert_eq!(parsed, outline, "{length}");
            let mut offset = 0;
            for bytes in blob.chunks(piece) {
                assert!(parsed.is_piece(offset, bytes), "{length}, {offset}");
                offset += bytes.len() as u64;
            }
        }
        let ended = Outline::read(&mut &noise(piece)[..], 2 * PIECE_BYTES).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_other_list_and_no_other_piece_is_taken(
            pieces in 2u64..6, cut in 1u64..1 << 20, at in any::<prop::sample::Index>(), bit in 0u32..8,
        ) {
            let size_bytes = pieces * PIECE_BYTES - cut;
            let blob = noise(size_bytes as usize);
            let digest = Digest::of(&blob);
            let outline = Outline::read(&mut &blob[..], size_bytes).unwrap().unwrap();
            let mut list = outline.encode();
            prop_assert!(Outline::parse(&list, &digest, size_bytes + PIECE_BYTES).is_none());
            // A size that is wrong by less is found with the last piece.
            if let Some(wrong) = Outline::parse(&list, &digest, size_bytes + 1) {
                let last = (pieces - 1) * PIECE_BYTES;
                let piece = [&blob[last as usize..], &[0]].concat();
                prop_assert!(!wrong.is_piece(last, &piece));
            }
            prop_assert!(Outline::parse(&list[32..], &digest, size_bytes).is_none());
            let place = at.index(list.len());
            list[place] ^= 1 << bit;
            prop_assert!(Outline::parse(&list, &digest, size_bytes).is_none());

            let mut blob = blob;
            let place = at.index(blob.len());
            blob[place] ^= 1 << bit;
            let offset = place as u64 / PIECE_BYTES * PIECE_BYTES;
            let piece = &blob[offset as usize..][..outline.piece_bytes(offset) as usize];
            prop_assert!(!outline.is_piece(offset, piece));
        }

        #[test]
        fn any_list_that_is_sent_is_refused_in_words_and_not_in_a_crash(
            bytes in proptest::collection::vec(any::<u8>(), 0..400), size_bytes in any::<u64>(),
        ) {
            prop_assert!(Outline::parse(&bytes, &Digest::of(b"a blob"), size_bytes).is_none());
        }
    }
}
