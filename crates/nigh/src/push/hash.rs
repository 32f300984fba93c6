//! What is the digest of a file, whatever its size?

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use nigh_proto::Digest;

/// Files up to this size are read in one piece.
const WHOLE_MAX_BYTES: u64 = 4 << 20;
/// How much of a larger file is in memory at once.
const CHUNK_BYTES: usize = 4 << 20;

/// The digest of a file's bytes, and how many there were.
///
/// Read and not mapped into memory: a mapped file that shrinks meanwhile would end the program.
pub(crate) fn digest(path: &Path, size_bytes: u64) -> io::Result<(Digest, u64)> {
    if size_bytes <= WHOLE_MAX_BYTES {
        let bytes = fs::read(path)?;
        return Ok((Digest::of(&bytes), bytes.len() as u64));
    }
    let mut file = fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let mut total = 0;
    loop {
        chunk.clear();
        let length = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if length == 0 {
            return Ok((hasher.finalize().into(), total));
        }
        hasher.update_rayon(&chunk);
        total += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_has_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let bytes = b"0123456789abcdef".repeat((WHOLE_MAX_BYTES as usize >> 4) + 9);
        fs::write(&path, &bytes).unwrap();
        let expected = (Digest::of(&bytes), bytes.len() as u64);
        assert_eq!(digest(&path, bytes.len() as u64).unwrap(), expected);
    }
}
