//! How is a backup written while pushes go on?
//!
//! The rows are read in one transaction into a file without a name, so that a slow reader of the
//! backup holds up no database. Their blobs follow, as they are stored; nothing is collected
//! meanwhile.

use std::{
    collections::{BTreeSet, HashSet},
    fs::File,
    io::{self, Read as _, Seek as _, Write},
    path::Path,
};

use nigh_core::blob::{ReadError, Store as BlobStore};
use nigh_proto::{Digest, Manifest, Timestamp, pack::PackHead};
use tokio::sync::mpsc;

use super::line::{End, FORMAT, Hashing, Head, Line, VERSION};
use crate::{
    app::App,
    blobs::{BlobError, Keep, PipeWriter, blocking},
    store::{Cells, StoreError},
};

/// Rows are text, and compress well at once.
const LEVEL: i32 = 3;
/// Rows between the database and the file.
const ROWS_MAX: usize = 256;
/// Blobs that are brought from the bucket at a time.
const FETCHED_AT_ONCE: usize = 1000;
/// Stored bytes of one pack: it is made in memory.
const PACK_BYTES: u64 = 4 << 20;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("the database cannot be read")]
    Store(#[from] StoreError),
    #[error("the rows cannot be kept in the state directory on their way")]
    Spool(#[source] io::Error),
    #[error(
        "the manifest {digest} of a release cannot be read; blobs cannot be part of the backup"
    )]
    Manifest { digest: Digest, source: ReadError },
    #[error("blobs cannot be brought from the bucket")]
    Fetch(#[source] BlobError),
}

type Encoder = Hashing<zstd::Encoder<'static, File>>;

/// Rows that are on disk, compressed.
#[derive(Debug)]
struct Spooled {
    file: File,
    /// Goes on with the blobs.
    hash: Hashing<()>,
    rows: u64,
}

/// A backup that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Backup {
    spooled: Spooled,
    _keep: Keep,
    blobs: Option<(BlobStore, Vec<Digest>)>,
}

impl App {
    /// Reads all rows; the blobs are read when the backup is [sent](Backup::send).
    pub(crate) async fn back_up(&self, with_blobs: bool) -> Result<Backup, BackupError> {
        let keep = self.blobs().keep();
        let dir = self.effective().config.state_dir.clone();
        let (version, now) = (self.version().to_owned(), self.now());
        let (sender, rows) = mpsc::channel(ROWS_MAX);
        let spool = blocking(move || spool(&dir, version, now, with_blobs, rows));
        let (dumped, spooled) = tokio::join!(self.store().dump(sender), spool);
        let spooled = spooled.map_err(BackupError::Spool)?;
        dumped?;
        let blobs = if with_blobs { Some(self.blobs_of_releases().await?) } else { None };
        Ok(Backup { spooled, _keep: keep, blobs })
    }

    async fn blobs_of_releases(&self) -> Result<(BlobStore, Vec<Digest>), BackupError> {
        let releases = self.store().all_releases().await?;
        let manifests = releases.iter().filter(|row| row.needs_blobs()).map(|row| row.manifest);
        let manifests: Vec<Digest> = manifests.collect();
        self.blobs().fetch(&manifests).await.map_err(BackupError::Fetch)?;
        let store = self.blobs().store().clone();
        let (store, digests) = blocking(move || {
            let mut digests = BTreeSet::new();
            for row in releases.iter().filter(|row| row.needs_blobs()) {
                if !digests.insert(row.manifest) {
                    continue;
                }
                digests.insert(row.rules);
                let text = store
                    .read(&row.manifest)
                    .map_err(|source| BackupError::Manifest { digest: row.manifest, source })?;
                let manifest = Manifest::parse(&text).ok();
                let entries = manifest.iter().flat_map(|manifest| manifest.entries());
                digests.extend(entries.map(|entry| entry.digest));
            }
            Ok::<_, BackupError>((store, digests.into_iter().collect::<Vec<Digest>>()))
        })
        .await?;
        // What only the bucket has; nothing is evicted while this backup is kept.
        for batch in digests.chunks(FETCHED_AT_ONCE) {
            self.blobs().fetch(batch).await.map_err(BackupError::Fetch)?;
        }
        Ok((store, digests))
    }
}

fn spool(
    dir: &Path,
    version: String,
    now: Timestamp,
    has_blobs: bool,
    mut rows: mpsc::Receiver<(&'static str, Cells)>,
) -> io::Result<Spooled> {
    let file = tempfile::tempfile_in(dir)?;
    let mut encoder: Encoder = Hashing::new(zstd::Encoder::new(file, LEVEL)?);
    let format = FORMAT.to_owned();
    let head = Head { format, version: VERSION, nigh: version, created_at: now, has_blobs };
    encoder.line(&Line::Head(head))?;
    let mut count = 0;
    while let Some((table, cells)) = rows.blocking_recv() {
        encoder.line(&Line::Row { table: table.to_owned(), cells })?;
        count += 1;
    }
    let mut finished = Ok(None);
    let hash = encoder.replace(|encoder| finished = encoder.finish().map(Some));
    let mut file = finished?.ok_or_else(|| io::Error::other("the rows have no file"))?;
    file.rewind()?;
    Ok(Spooled { file, hash, rows: count })
}

impl Backup {
    /// Sends everything to `to`, on a thread that may block. What breaks off has no last line.
    pub(crate) fn send(self, mut to: PipeWriter) {
        if let Err(error) = self.write(&mut to) {
            tracing::warn!(%error, "a backup broke off");
            to.fail(error);
        }
    }

    fn write(self, mut to: &mut impl Write) -> io::Result<()> {
        let Backup { mut spooled, _keep, blobs } = self;
        io::copy(&mut spooled.file, &mut to)?;
        // A second frame of the same stream (RFC 8878, section 3.1).
        let encoder = zstd::Encoder::new(to, LEVEL)?;
        let mut out = spooled.hash.replace(|()| encoder);
        let mut sent = 0;
        if let Some((store, digests)) = blobs {
            sent = write_blobs(&store, &digests, &mut out)?;
        }
        let end = End { rows: spooled.rows, blobs: sent, digest: out.digest() };
        out.line(&Line::End(end))?;
        out.into_inner().finish()?.flush()
    }
}

/// Writes those blobs that are here and returns how many they were.
fn write_blobs(
    store: &BlobStore,
    digests: &[Digest],
    out: &mut Hashing<impl Write>,
) -> io::Result<u64> {
    let (mut small, mut small_bytes, mut sent) = (Vec::new(), 0, 0);
    let mut seen = HashSet::new();
    for digest in digests.iter().filter(|digest| seen.insert(**digest)) {
        let Some(stat) = store.stat(digest) else { continue };
        sent += 1;
        if stat.is_loose {
            write_large(store, digest, out)?;
            continue;
        }
        if small_bytes + stat.stored_len > PACK_BYTES || small.len() == PackHead::MAX_BLOBS {
            write_pack(store, &small, out)?;
            small.clear();
            small_bytes = 0;
        }
        small.push(*digest);
        small_bytes += stat.stored_len;
    }
    if !small.is_empty() {
        write_pack(store, &small, out)?;
    }
    Ok(sent)
}

fn write_pack(
    store: &BlobStore,
    digests: &[Digest],
    out: &mut Hashing<impl Write>,
) -> io::Result<()> {
    let mut pack = Vec::new();
    store.write_pack(digests, &mut pack).map_err(io::Error::other)?;
    out.line(&Line::Pack { bytes: pack.len() as u64 })?;
    out.write_all(&pack)
}

fn write_large(
    store: &BlobStore,
    digest: &Digest,
    out: &mut Hashing<impl Write>,
) -> io::Result<()> {
    let (file, bytes) = store.open_loose(digest).map_err(io::Error::other)?;
    out.line(&Line::Blob { digest: *digest, bytes })?;
    let copied = io::copy(&mut file.take(bytes), out)?;
    if copied == bytes { Ok(()) } else { Err(io::Error::other("a blob is shorter than it was")) }
}
