//! How do bytes get out of the store?

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
};

use nigh_proto::{
    Digest,
    pack::{InvalidPack, PackHead, PackedBlob, StoredCoding},
};

use super::{
    builder::PackBuilder,
    codec::Decoder,
    error::{FileError, ReadError, WritePackError},
    heads,
    index::{Found, Location},
    outline::Outline,
    pack_files::is_damage,
    store::{Store, UNPOISONED},
};

/// A collection may move a blob between the look-up and the read; it runs far too seldom to do so
/// this often.
const MOVES_MAX: usize = 4;
/// Bodies go out in pieces of about this size.
const SEND_BYTES: usize = 256 << 10;

/// A packed blob as it is stored, not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBody {
    pub digest: Digest,
    pub coding: StoredCoding,
    pub raw_len: u32,
    /// Raw bytes or one zstd frame, as `coding` says.
    pub bytes: Vec<u8>,
}

impl StoredBody {
    /// The raw bytes, checked.
    ///
    /// # Errors
    ///
    /// `Corrupt` when they are not those of the digest.
    pub fn into_raw(self) -> Result<Vec<u8>, ReadError> {
        let StoredBody { digest, coding, raw_len, bytes } = self;
        let stored_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let blob = PackedBlob { digest, coding, stored_len, raw_len };
        let raw = Decoder::default().verify_into_vec(&blob, bytes);
        raw.map_err(|_| ReadError::Corrupt { digest })
    }
}

impl Store {
    /// The largest blob that [`read`](Self::read) gives at once, in bytes.
    pub const READ_BYTES_MAX: u64 = 64 << 20;

    /// The raw bytes of the blob, checked against its digest.
    ///
    /// # Errors
    ///
    /// `Missing`, `Corrupt`, `File`, or `TooLarge` beyond [`READ_BYTES_MAX`](Self::READ_BYTES_MAX).
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, ReadError> {
        self.read_up_to(digest, Self::READ_BYTES_MAX)
    }

    /// The raw bytes of the blob, checked, if they are no more than `max_bytes`.
    ///
    /// # Errors
    ///
    /// `Missing`, `Corrupt`, `TooLarge` or `File`.
    pub fn read_up_to(&self, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let digest = *digest;
        let stat = self.stat(&digest).ok_or(ReadError::Missing { digest })?;
        let bytes = stat.raw_len;
        if bytes > max_bytes {
            return Err(ReadError::TooLarge { digest, bytes, max_bytes });
        }
        if stat.is_loose {
            return self.read_loose(digest, bytes);
        }
        self.read_stored(&digest)?.into_raw()
    }

    /// The blob as it is stored in its pack, not checked; [`StoredBody::into_raw`] does that.
    ///
    /// # Errors
    ///
    /// `Missing`, `Loose`, `File`, or `Corrupt` when its pack is gone, too short or unreadable.
    pub fn read_stored(&self, digest: &Digest) -> Result<StoredBody, ReadError> {
        let digest = *digest;
        for _ in 0..MOVES_MAX {
            let location = self.location(&digest)?;
            match self.inner.packs.read(location) {
                Ok(bytes) => {
                    let PackedBlob { coding, raw_len, .. } = location.packed(digest);
                    return Ok(StoredBody { digest, coding, raw_len, bytes });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if is_damage(&error) => break,
                Err(error) => {
                    let path = self.inner.layout.pack(location.pack);
                    let source = FileError::at("read", path)(error);
                    return Err(ReadError::File { digest, source });
                }
            }
        }
        // Someone else removed the pack or cut it off.
        Err(ReadError::Corrupt { digest })
    }

    /// The outline of a blob that has a file of its own.
    ///
    /// # Errors
    ///
    /// As [`open_loose`](Self::open_loose), or when the file cannot be read.
    pub fn outline(&self, digest: &Digest) -> Result<Option<Outline>, ReadError> {
        let (mut file, bytes) = self.open_loose(digest)?;
        let path = self.inner.layout.loose_blob(digest);
        Outline::read(&mut file, bytes).map_err(|error| ReadError::File {
            digest: *digest,
            source: FileError::at("read", path)(error),
        })
    }

    /// The file of a blob that is too large for a pack, and its length. Not checked.
    ///
    /// # Errors
    ///
    /// `Missing`, `Packed`, `File`, or `Corrupt` when the file is gone or has another length.
    pub fn open_loose(&self, digest: &Digest) -> Result<(File, u64), ReadError> {
        let digest = *digest;
        let bytes = match self.inner.find(&digest) {
            Some(Found::Loose { bytes }) => bytes,
            Some(Found::Packed(_)) => return Err(ReadError::Packed { digest }),
            None => return Err(ReadError::Missing { digest }),
        };
        let path = self.inner.layout.loose_blob(&digest);
        match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((length, file)) if length == bytes => Ok((file, bytes)),
            Ok(_) => Err(ReadError::Corrupt { digest }),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.contains(&digest) => {
                Err(ReadError::Missing { digest })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(ReadError::Corrupt { digest }),
            Err(error) => {
                Err(ReadError::File { digest, source: FileError::at("open", path)(error) })
            }
        }
    }

    /// Writes a pack of `digests`, in their order, to `out`; returns its length in bytes.
    ///
    /// Bodies go out as they are stored and unchecked: who receives a pack checks it.
    ///
    /// # Errors
    ///
    /// Before anything is written: a blob that is missing or loose, or more than a pack may have.
    /// After that a pack that was begun is not a whole one.
    pub fn write_pack(
        &self,
        digests: &[Digest],
        out: &mut impl Write,
    ) -> Result<u64, WritePackError> {
        let head = self.pack_of(digests)?;
        let mut buffer = head.encode();
        let mut sent_bytes = 0;
        for blob in &head.blobs {
            let body = self.read_stored(&blob.digest)?.bytes;
            // A blob that was forgotten and came back with another body would break the head.
            if body.len() != blob.stored_len as usize {
                return Err(ReadError::Corrupt { digest: blob.digest }.into());
            }
            if buffer.len() + body.len() > SEND_BYTES {
                sent_bytes += send(out, &mut buffer)?;
            }
            buffer.extend_from_slice(&body);
        }
        Ok(sent_bytes + send(out, &mut buffer)?)
    }

    /// Whether the blob is here and its bytes, read from disk, are those of its digest.
    pub fn verify(&self, digest: &Digest) -> bool {
        match self.open_loose(digest) {
            Ok((mut file, _)) => hash(&mut file).is_ok_and(|actual| actual == *digest),
            Err(ReadError::Packed { .. }) => {
                self.read_stored(digest).and_then(StoredBody::into_raw).is_ok()
            }
            Err(_) => false,
        }
    }

    fn location(&self, digest: &Digest) -> Result<Location, ReadError> {
        match self.inner.find(digest) {
            Some(Found::Packed(location)) => Ok(location),
            Some(Found::Loose { .. }) => Err(ReadError::Loose { digest: *digest }),
            None => Err(ReadError::Missing { digest: *digest }),
        }
    }

    fn read_loose(&self, digest: Digest, bytes: u64) -> Result<Vec<u8>, ReadError> {
        let (file, _) = self.open_loose(&digest)?;
        let mut raw = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        let path = self.inner.layout.loose_blob(&digest);
        file.take(bytes).read_to_end(&mut raw).map_err(|error| ReadError::File {
            digest,
            source: FileError::at("read", path)(error),
        })?;
        if Digest::of(&raw) == digest { Ok(raw) } else { Err(ReadError::Corrupt { digest }) }
    }

    /// The head of a pack of `digests`.
    fn pack_of(&self, digests: &[Digest]) -> Result<PackHead, WritePackError> {
        if digests.len() > PackHead::MAX_BLOBS {
            return Err(InvalidPack::TooMany { count: digests.len() }.into());
        }
        let index = self.inner.index.read().expect(UNPOISONED);
        let blobs = digests.iter().map(|&digest| match index.find(&digest) {
            Some(Found::Packed(location)) => Ok(location.packed(digest)),
            Some(Found::Loose { .. }) => Err(ReadError::Loose { digest }),
            None => Err(ReadError::Missing { digest }),
        });
        let head = PackHead { blobs: blobs.collect::<Result<_, _>>()? };
        let bytes = head.bodies_bytes();
        if bytes > PackHead::MAX_BODIES_BYTES {
            return Err(InvalidPack::TooLarge { bytes }.into());
        }
        let raw_bytes = heads::raw_bytes(&head);
        let max_bytes = PackBuilder::RAW_BYTES_MAX;
        if raw_bytes > max_bytes {
            return Err(WritePackError::TooMuch { raw_bytes, max_bytes });
        }
        Ok(head)
    }
}

/// Writes what is in `buffer` and empties it.
fn send(out: &mut impl Write, buffer: &mut Vec<u8>) -> Result<u64, WritePackError> {
    out.write_all(buffer).map_err(|source| WritePackError::Send { source })?;
    let bytes = buffer.len() as u64;
    buffer.clear();
    Ok(bytes)
}

/// The digest of what is left in `file`, read in pieces.
pub(super) fn hash(file: &mut File) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().into())
}
