//! Which blobs does a pack file hold, going by its head?

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

use nigh_proto::{
    Digest,
    pack::{InvalidPack, PackHead},
};

use super::{error::InsertError, index::Location};

/// The head of a pack on disk and the length of its file.
#[derive(Debug)]
pub(super) struct FileHead {
    pub(super) head: PackHead,
    pub(super) file_bytes: u64,
}

/// Reads the head of a pack file; `Ok(None)` when the file is not a whole pack.
pub(super) fn read_file(path: &Path) -> io::Result<Option<FileHead>> {
    let mut file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    match read(&mut file) {
        Ok(head) if file_bytes == file_len(&head) => Ok(Some(FileHead { head, file_bytes })),
        Err(InsertError::Receive { source }) => Err(source),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Reads the head at the start of a pack. Memory is taken as bytes arrive, not as they are
/// announced.
pub(super) fn read(reader: &mut impl Read) -> Result<PackHead, InsertError> {
    let mut prefix = [0; PackHead::PREFIX_BYTES];
    reader.read_exact(&mut prefix).map_err(receive_error)?;
    let length = PackHead::head_bytes(PackHead::count(&prefix)?);
    let mut bytes = prefix.to_vec();
    let rest_bytes = (length - bytes.len()) as u64;
    reader.take(rest_bytes).read_to_end(&mut bytes).map_err(receive_error)?;
    PackHead::parse(&bytes).map_err(|error| match error {
        InvalidPack::Truncated => InsertError::Truncated,
        error => InsertError::Invalid(error),
    })
}

/// An end that came too early is the sender's mistake, anything else the connection's.
pub(super) fn receive_error(source: io::Error) -> InsertError {
    match source.kind() {
        ErrorKind::UnexpectedEof => InsertError::Truncated,
        _ => InsertError::Receive { source },
    }
}

/// The length of the whole pack.
pub(super) fn file_len(head: &PackHead) -> u64 {
    PackHead::head_bytes(head.blobs.len()) as u64 + head.bodies_bytes()
}

/// The length of all blobs of a pack once they are decoded.
pub(super) fn raw_bytes(head: &PackHead) -> u64 {
    head.blobs.iter().map(|blob| u64::from(blob.raw_len)).sum()
}

/// Where the blobs of pack `id` lie.
pub(super) fn locate(id: u32, head: &PackHead) -> impl Iterator<Item = (Digest, Location)> + '_ {
    // A head of 65,536 blobs and 64 MiB of bodies stay far below 4 GiB.
    let mut offset = PackHead::head_bytes(head.blobs.len()) as u32;
    head.blobs.iter().map(move |blob| {
        let (stored_len, raw_len) = (blob.stored_len, blob.raw_len);
        let location = Location { pack: id, offset, stored_len, raw_len };
        offset += stored_len;
        (blob.digest, location)
    })
}
