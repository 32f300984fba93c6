//! How do missing blobs reach control, whatever happens to the connection?
//!
//! Small blobs travel in packs, large ones in parts that begin where control stands. Everything may be
//! sent twice, so a broken connection or a restarted control costs a repetition and nothing else.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use nigh_client::{BlobUpload, CallError, Client, wait_before};
use nigh_proto::{Digest, api::UPLOAD_PART_MAX_BYTES, pack::PackHead};
use tokio::sync::mpsc;

use super::{
    local::Local,
    packs::{self, Pack, PackError, Wanted},
    progress::Bar,
};

/// How many requests are on their way at once.
const IN_FLIGHT: usize = 4;
/// How many large blobs are on their way at once, beside packs.
const LARGE_IN_FLIGHT: usize = 2;
/// How many finished packs wait for a request.
const PACKS_WAITING: usize = 2;
/// How many parts of one large blob may fail before the push does.
const PART_FAILURES_MAX: u32 = 1000;

/// Why not everything was uploaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// Hash it again and begin anew.
    #[error("{} changed while it was pushed", .path.display())]
    Changed { path: PathBuf },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the files could not be packed")]
    Pack(#[source] tokio::task::JoinError),
}

impl From<PackError> for UploadError {
    fn from(error: PackError) -> Self {
        let PackError::Changed { path } = error;
        UploadError::Changed { path }
    }
}

/// Sends blobs to control until `deadline`.
#[derive(Debug)]
pub(crate) struct Uploader<'a> {
    pub(crate) client: &'a Client,
    pub(crate) deadline: Instant,
    pub(crate) bar: &'a Bar,
    /// Bytes that control has taken.
    pub(crate) sent_bytes: AtomicU64,
}

impl Uploader<'_> {
    /// Uploads every one of `missing` from the files of `local`.
    pub(crate) async fn upload(
        &self,
        local: &Local,
        missing: &[Digest],
    ) -> Result<(), UploadError> {
        let files = local.files_with(missing);
        let is_small = |wanted: &Wanted| wanted.2 <= u64::from(PackHead::MAX_BLOB_BYTES);
        let (small, large): (Vec<_>, Vec<_>) = files.into_iter().partition(is_small);
        let large = stream::iter(large.into_iter().map(Ok))
            .try_for_each_concurrent(LARGE_IN_FLIGHT, |wanted| self.upload_large(wanted));
        tokio::try_join!(self.upload_small(small), large)?;
        Ok(())
    }

    async fn upload_small(&self, files: Vec<Wanted>) -> Result<(), UploadError> {
        if files.is_empty() {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel::<Pack>(PACKS_WAITING);
        let packing = tokio::task::spawn_blocking(move || packs::pack(&files, &sender));
        let packs = stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|pack| (pack, receiver))
        });
        // When one upload fails the stream is dropped, and with it what the packing sends to.
        let uploaded =
            packs.map(Ok).try_for_each_concurrent(IN_FLIGHT, |pack| self.upload_pack(pack));
        let uploaded = uploaded.await;
        let packed = packing.await.map_err(UploadError::Pack)?;
        // A file that changed explains a refusal better than the refusal itself.
        packed?;
        uploaded
    }

    async fn upload_pack(&self, pack: Pack) -> Result<(), UploadError> {
        let bytes = Bytes::from(pack.bytes);
        let length = bytes.len() as u64;
        self.client.upload_pack(bytes).await?;
        self.count(length, pack.raw_bytes);
        Ok(())
    }

    async fn upload_large(&self, (digest, path, length): Wanted) -> Result<(), UploadError> {
        let mut failures = 0;
        let mut stands = self.client.blob_upload(&digest).await?;
        while let BlobUpload::Partial { offset } = stands {
            let part = read_part(&path, offset, length).await?;
            let sent = part.len() as u64;
            stands = match self.client.upload_part(&digest, length, offset, part).await {
                Ok(stands) => {
                    self.count(sent, sent);
                    stands
                }
                Err(error) if error.code() == Some("digest_mismatch") => {
                    return Err(UploadError::Changed { path });
                }
                Err(error) => {
                    failures += 1;
                    self.pause(failures, error).await?;
                    self.client.blob_upload(&digest).await?
                }
            };
        }
        Ok(())
    }

    /// Waits before a part is sent again, unless that would be useless or too late.
    async fn pause(&self, failures: u32, error: CallError) -> Result<(), UploadError> {
        let wait = wait_before(failures, u64::from(failures));
        let is_late = Instant::now() + wait >= self.deadline;
        if !error.is_passing() || is_late || failures > PART_FAILURES_MAX {
            return Err(error.into());
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn count(&self, sent_bytes: u64, raw_bytes: u64) {
        self.sent_bytes.fetch_add(sent_bytes, Ordering::Relaxed);
        self.bar.advance(raw_bytes);
    }
}

/// The part of a file that begins at `offset`; all of it must still be there.
async fn read_part(path: &Path, offset: u64, length: u64) -> Result<Bytes, UploadError> {
    let changed = || UploadError::Changed { path: path.to_owned() };
    let size = length.checked_sub(offset).ok_or_else(changed)?.min(UPLOAD_PART_MAX_BYTES);
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut part = vec![0; usize::try_from(size).unwrap_or(0)];
        File::open(owned)?.read_exact_at(&mut part, offset)?;
        std::io::Result::Ok(part)
    });
    match read.await {
        Ok(Ok(part)) => Ok(part.into()),
        Ok(Err(_)) | Err(_) => Err(changed()),
    }
}
