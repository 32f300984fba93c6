//! Is this stored body the blob that it claims to be?

use nigh_proto::{
    Digest,
    pack::{PackedBlob, StoredCoding},
};
use zstd::bulk::Decompressor;

use super::{
    error::InsertError,
    frame::{self, BadFrame},
};

/// Decodes and checks bodies, one after the other; keeps at most one raw body (1 MiB) as scratch.
#[derive(Default)]
pub(super) struct Decoder {
    zstd: Decompressor<'static>,
    raw: Vec<u8>,
}

impl Decoder {
    /// The raw bytes of `body`, checked against the digest.
    pub(super) fn verify<'a>(
        &'a mut self,
        blob: &PackedBlob,
        body: &'a [u8],
    ) -> Result<&'a [u8], InsertError> {
        let claimed = blob.digest;
        let raw = match blob.coding {
            StoredCoding::Identity => body,
            StoredCoding::Zstd => self.decode(blob, body)?,
        };
        let actual = Digest::of(raw);
        if actual == claimed { Ok(raw) } else { Err(InsertError::Mismatch { claimed, actual }) }
    }

    fn decode(&mut self, blob: &PackedBlob, body: &[u8]) -> Result<&[u8], InsertError> {
        let PackedBlob { digest, raw_len, .. } = *blob;
        let stated =
            frame::content_bytes(body).map_err(|source| InsertError::Frame { digest, source })?;
        if stated != u64::from(raw_len) {
            return Err(InsertError::Expands { digest });
        }
        // The capacity bounds what is decoded, and a buffer from before may have more of it.
        let raw_len = raw_len as usize;
        self.raw.clear();
        self.raw.reserve(raw_len);
        let length = self
            .zstd
            .decompress_to_buffer(body, &mut self.raw)
            .map_err(|_| InsertError::Frame { digest, source: BadFrame::Damaged })?;
        if length == raw_len { Ok(&self.raw) } else { Err(InsertError::Expands { digest }) }
    }

    /// Like [`verify`](Self::verify), for a caller that keeps the raw bytes.
    pub(super) fn verify_into_vec(
        mut self,
        blob: &PackedBlob,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, InsertError> {
        self.verify(blob, &body)?;
        match blob.coding {
            StoredCoding::Identity => Ok(body),
            StoredCoding::Zstd => Ok(self.raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(raw: &[u8], stored_len: usize) -> PackedBlob {
        let (digest, raw_len) = (Digest::of(raw), raw.len() as u32);
        PackedBlob { digest, coding: StoredCoding::Zstd, stored_len: stored_len as u32, raw_len }
    }

    #[test]
    fn a_body_that_expands_beyond_its_length_is_refused_before_it_is_decoded() {
        let body = zstd::bulk::compress(&vec![0; 1 << 20], 19).unwrap();
        let mut decoder = Decoder::default();
        let lie = blob(&[0; 100], body.len());
        assert!(matches!(decoder.verify(&lie, &body), Err(InsertError::Expands { .. })));
        assert_eq!(decoder.raw.capacity(), 0);
    }

    #[test]
    fn a_body_of_other_bytes_is_a_mismatch() {
        let body = zstd::bulk::compress(&[1; 100], 3).unwrap();
        let error = Decoder::default().verify(&blob(&[0; 100], body.len()), &body).unwrap_err();
        assert!(matches!(error, InsertError::Mismatch { claimed, actual }
            if claimed == Digest::of(&[0; 100]) && actual == Digest::of(&[1; 100])));
    }

    #[test]
    fn bodies_after_each_other_do_not_mix() {
        let mut decoder = Decoder::default();
        for raw in
            [vec![1u8; 5000], vec![2; 100], Vec::from(*b"abcabcabcabcabcabcabcabcabcabcabcabc")]
        {
            let body = zstd::bulk::compress(&raw, 3).unwrap();
            assert_eq!(decoder.verify(&blob(&raw, body.len()), &body).unwrap(), raw);
        }
    }
}
