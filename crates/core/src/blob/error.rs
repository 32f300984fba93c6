//! What can keep a store from opening, taking, giving or dropping a blob?

use std::{io, path::PathBuf};

use nigh_durable::LockError;
use nigh_proto::{Digest, pack::InvalidPack};

use super::frame::BadFrame;

/// A file or folder of the store that could not be worked on.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}", path = path.display())]
pub struct FileError {
    /// A verb: what was tried.
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: `action` is a verb.
    pub(super) fn at(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| FileError { action, path, source }
    }

    /// Whether the disk, or the quota of its user, has no more room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is missing and cannot be made, or another process works in it.
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why bytes were not taken into the store. None of them is visible then.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    #[error("blob {claimed} hashes to {actual}")]
    Mismatch { claimed: Digest, actual: Digest },
    /// `free_bytes` are those beyond the store's reserve.
    #[error("{needed_bytes} bytes are needed and {free_bytes} are free; make room on the disk")]
    Full { needed_bytes: u64, free_bytes: u64 },
    #[error("not a pack of blobs")]
    Invalid(#[from] InvalidPack),
    #[error("the body of blob {digest} cannot be stored")]
    Frame { digest: Digest, source: BadFrame },
    /// A body that decodes to more, or to less, than the pack's head says.
    #[error("the body of blob {digest} does not decode to the length that the pack states")]
    Expands { digest: Digest },
    /// A pack that would take gigabytes of decoding to check.
    #[error("the blobs of the pack have {raw_bytes} bytes, more than the {max_bytes} of one pack")]
    TooMuch { raw_bytes: u64, max_bytes: u64 },
    #[error("the bytes end too early; send the rest")]
    Truncated,
    #[error("bytes follow the last body of the pack")]
    Trailing,
    #[error("more bytes were sent for blob {digest} than the {size_bytes} it has")]
    PastEnd { digest: Digest, size_bytes: u64 },
    #[error("blob {digest} is being uploaded by someone else; try again when that has ended")]
    Busy { digest: Digest },
    /// The reader that the bytes came from failed.
    #[error("could not receive the bytes of blobs")]
    Receive { source: io::Error },
    #[error("could not store blobs")]
    Write { source: FileError },
}

/// Why a blob was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("blob {digest} is not in the store")]
    Missing { digest: Digest },
    /// The bytes on disk are not those of the digest; the caller may [`forget`](super::Store::forget)
    /// the blob and fetch it again.
    #[error("blob {digest} is damaged on disk")]
    Corrupt { digest: Digest },
    #[error("blob {digest} has {bytes} bytes, more than the {max_bytes} that may be read at once")]
    TooLarge { digest: Digest, bytes: u64, max_bytes: u64 },
    /// [`read_stored`](super::Store::read_stored) of a blob that is not in a pack.
    #[error("blob {digest} is too large for a pack")]
    Loose { digest: Digest },
    /// [`open_loose`](super::Store::open_loose) of a blob that has no file of its own.
    #[error("blob {digest} lies in a pack")]
    Packed { digest: Digest },
    #[error("could not read blob {digest}")]
    File { digest: Digest, source: FileError },
}

/// Why a pack was not written out.
#[derive(Debug, thiserror::Error)]
pub enum WritePackError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// More blobs or bytes than one pack may have.
    #[error("the blobs do not fit into one pack")]
    Invalid(#[from] InvalidPack),
    /// More raw bytes than a store agrees to decode for one pack.
    #[error("the blobs have {raw_bytes} bytes, more than the {max_bytes} of one pack")]
    TooMuch { raw_bytes: u64, max_bytes: u64 },
    /// The writer failed; what it got is not a whole pack.
    #[error("could not send the pack")]
    Send { source: io::Error },
}
