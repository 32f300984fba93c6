//! How does a large blob arrive in pieces, over days and restarts if need be?

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use nigh_proto::{Digest, pack::PackHead};

use super::{
    disk::Promise,
    error::{FileError, InsertError},
    store::{Inner, Store, UNPOISONED},
};

/// A blob that is being uploaded. What was appended stays when this is dropped or the process ends;
/// the next [`Store::begin`] goes on from there.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    digest: Digest,
    size_bytes: u64,
    /// `None` when the blob is in the store already.
    upload: Option<Upload>,
    offset: u64,
}

#[derive(Debug)]
struct Upload {
    file: File,
    path: PathBuf,
    /// Of what the file holds up to the offset.
    hasher: Box<blake3::Hasher>,
    _writer: Writer,
    _room: Promise,
}

/// The right to write the partial of one digest.
#[derive(Debug)]
struct Writer {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Store {
    /// Begins the upload of a blob of `size_bytes`, or goes on with one that was interrupted, which
    /// reads again what is there.
    ///
    /// For a blob that is here already the offset is at its end and nothing is written; it outlives
    /// the next collection.
    ///
    /// # Errors
    ///
    /// `Busy` while another [`Partial`] of the digest exists; `Full` or `Write`.
    pub fn begin(&self, digest: Digest, size_bytes: u64) -> Result<Partial, InsertError> {
        self.begin_aligned(digest, size_bytes, 1)
    }

    /// The same, going on at a multiple of `align` bytes.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn begin_aligned(
        &self,
        digest: Digest,
        size_bytes: u64,
        align: u64,
    ) -> Result<Partial, InsertError> {
        let inner = Arc::clone(&self.inner);
        if inner.want(&digest) {
            return Ok(Partial { inner, digest, size_bytes, upload: None, offset: size_bytes });
        }
        let writer = Writer::claim(&inner, digest)?;
        let path = inner.layout.partial(&digest);
        let failed = |source| inner.disk.write_error(source, size_bytes);
        let (file, hasher) = resume(&path, size_bytes, align)
            .map_err(|error| failed(FileError::at("resume", &path)(error)))?;
        let offset = hasher.count();
        let room = inner.disk.promise(size_bytes - offset)?;
        let upload =
            Some(Upload { file, path, hasher: Box::new(hasher), _writer: writer, _room: room });
        Ok(Partial { inner, digest, size_bytes, upload, offset })
    }
}

impl Partial {
    /// How many bytes are here; the next ones follow these.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes the blob has.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What is here, to be read while more is appended and after the blob is whole; `None` when it
    /// was in the store before.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn reader(&self) -> Result<Option<File>, InsertError> {
        let Some(upload) = &self.upload else { return Ok(None) };
        let opened = File::open(&upload.path).map_err(FileError::at("read", &upload.path));
        opened.map(Some).map_err(|source| InsertError::Write { source })
    }

    /// Removes what is here: it is not what it should be.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub fn discard(self) -> Result<(), InsertError> {
        let removed = self.upload.map_or(Ok(()), Upload::remove);
        removed.map_err(|source| InsertError::Write { source })
    }

    /// Appends the next bytes of the blob.
    ///
    /// # Errors
    ///
    /// `PastEnd` when the blob has fewer bytes, `Full` or `Write`. After an error the offset is as
    /// it was.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), InsertError> {
        let Partial { digest, size_bytes, offset, .. } = *self;
        let end = offset + bytes.len() as u64;
        if end > size_bytes {
            return Err(InsertError::PastEnd { digest, size_bytes });
        }
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        if let Err(error) = upload.file.write_all_at(bytes, offset) {
            // Best effort: whatever is left of these bytes is overwritten by the next append.
            let _ = upload.file.set_len(offset);
            let source = FileError::at("write", &upload.path)(error);
            return Err(self.inner.disk.write_error(source, size_bytes - offset));
        }
        upload.hasher.update(bytes);
        self.offset = end;
        Ok(())
    }

    /// Checks the blob and makes it visible; after `Ok` it survives a power cut.
    ///
    /// # Errors
    ///
    /// `Truncated` when bytes are missing: the partial stays. `Mismatch` when the bytes are others:
    /// the partial is deleted. `Full` or `Write`: the partial stays.
    pub fn finish(self) -> Result<(), InsertError> {
        let Partial { inner, digest, size_bytes, upload, offset } = self;
        let Some(upload) = upload else {
            return Ok(());
        };
        if offset < size_bytes {
            return Err(InsertError::Truncated);
        }
        let actual = upload.hasher.finalize().into();
        if actual != digest {
            upload.remove().map_err(|source| InsertError::Write { source })?;
            return Err(InsertError::Mismatch { claimed: digest, actual });
        }
        if size_bytes <= u64::from(PackHead::MAX_BLOB_BYTES) {
            return upload.into_pack(Store { inner }, size_bytes);
        }
        let stored = upload.into_loose(&inner, digest, size_bytes);
        stored.map_err(|source| inner.disk.write_error(source, size_bytes))
    }
}

impl Upload {
    /// Small blobs lie in packs however they came, so that the length of a blob tells its place.
    fn into_pack(self, store: Store, size_bytes: u64) -> Result<(), InsertError> {
        let mut raw = vec![0; usize::try_from(size_bytes).unwrap_or(0)];
        let failed = |source| InsertError::Write { source };
        let read = self.file.read_exact_at(&mut raw, 0);
        read.map_err(FileError::at("read", &self.path)).map_err(failed)?;
        store.insert(&raw)?;
        self.remove().map_err(failed)
    }

    fn into_loose(self, inner: &Inner, digest: Digest, size_bytes: u64) -> Result<(), FileError> {
        // Synced here, since what follows holds up other names.
        self.file.sync_all().map_err(FileError::at("sync", &self.path))?;
        inner.publish_loose(digest, size_bytes, |dir| {
            nigh_durable::rename(&self.file, &self.path, &dir.join(digest.to_string()))
        })
    }

    fn remove(self) -> Result<(), FileError> {
        std::fs::remove_file(&self.path).map_err(FileError::at("remove", &self.path))
    }
}

impl Writer {
    fn claim(inner: &Arc<Inner>, digest: Digest) -> Result<Self, InsertError> {
        if inner.writers.lock().expect(UNPOISONED).insert(digest) {
            Ok(Writer { inner: Arc::clone(inner), digest })
        } else {
            Err(InsertError::Busy { digest })
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.inner.writers.lock().expect(UNPOISONED).remove(&self.digest);
    }
}

/// Opens the partial at `path` and hashes what it holds. One that is longer than the blob was begun
/// for another size, so it starts over.
fn resume(
    path: &std::path::Path,
    size_bytes: u64,
    align: u64,
) -> io::Result<(File, blake3::Hasher)> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    let length = file.metadata()?.len();
    if length > size_bytes {
        file.set_len(0)?;
    } else if length < size_bytes && !length.is_multiple_of(align) {
        file.set_len(length - length % align)?;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    Ok((file, hasher))
}

impl Inner {
    /// Removes partials that nobody writes, for which `is_stale` holds; what that frees in bytes.
    pub(super) fn remove_partials(
        &self,
        is_stale: impl Fn(&Digest, &std::fs::Metadata) -> bool,
    ) -> Result<u64, FileError> {
        let dir = self.layout.partials();
        let entries = std::fs::read_dir(&dir).map_err(FileError::at("list", &dir))?;
        let mut freed_bytes = 0;
        for entry in entries {
            let entry = entry.map_err(FileError::at("list", &dir))?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            freed_bytes += self.remove_partial(&digest, &is_stale)?;
        }
        Ok(freed_bytes)
    }

    fn remove_partial(
        &self,
        digest: &Digest,
        is_stale: impl Fn(&Digest, &std::fs::Metadata) -> bool,
    ) -> Result<u64, FileError> {
        let path = self.layout.partial(digest);
        // Asked before the lock, since the caller's answer may take its time.
        let metadata = match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            metadata => metadata.map_err(FileError::at("read", &path))?,
        };
        let is_stored = self.find(digest).is_some();
        if !is_stored && !is_stale(digest, &metadata) {
            return Ok(0);
        }
        let writers = self.writers.lock().expect(UNPOISONED);
        if writers.contains(digest) {
            return Ok(0);
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            removed => removed.map(|()| metadata.len()).map_err(FileError::at("remove", path)),
        }
    }
}
