//! How does an empty control take in a backup?
//!
//! Everything is checked and in place before the one commit at the end: a backup that is cut off,
//! damaged or of another version leaves the database as empty as it was.

use std::{
    io::{self, BufReader, Read},
    path::PathBuf,
    time::SystemTime,
};

use nigh_core::blob::{self, InsertError, Store as BlobStore, StoreOptions};
use nigh_durable::{LockError, StateDir};
use nigh_proto::{Digest, Timestamp, api::BLOB_MAX_BYTES};
use tokio::sync::mpsc;

use super::line::{End, FORMAT, Hashing, Head, Line, VERSION};
use crate::{
    blobs::blocking,
    config::ControlConfig,
    request::Actor,
    seal::KeyFileError,
    server::open_seal,
    store::{Cells, Columns, Deed, OpenError, RowError, Store, StoreError, Tx},
};

/// Rows between the file and the database.
const ROWS_MAX: usize = 256;
const BUFFER_BYTES: usize = 1 << 20;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the state directory cannot be used; is control running?")]
    State(#[from] LockError),
    #[error(
        "the key of the backup's secrets is missing: put secret.key of the old control in place"
    )]
    Key(#[source] KeyFileError),
    #[error(transparent)]
    Database(OpenError),
    #[error("the database is in use: restore into a new state directory or an empty database")]
    NotEmpty,
    #[error("the blob store cannot be opened")]
    Blobs(#[from] blob::OpenError),
    #[error("this is no backup of nigh, or it is damaged")]
    Damaged(#[from] io::Error),
    #[error("this backup ends before its end: it is not whole")]
    CutOff,
    #[error("this backup was made by nigh {nigh}, in a format that this version does not know")]
    Version { nigh: String },
    #[error("what was read is not what was written: the backup is damaged")]
    Digest,
    #[error("a row of the backup cannot be taken in")]
    Row(#[from] RowError),
    #[error("a blob of the backup cannot be taken in")]
    Insert(#[from] InsertError),
    #[error("the key file does not open the secrets of this backup; bring that of the old control")]
    WrongKey(#[source] StoreError),
    #[error("the database cannot be written")]
    Store(StoreError),
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Sealed(_) => Self::WrongKey(error),
            error => Self::Store(error),
        }
    }
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    pub created_at: Timestamp,
    pub rows: u64,
    pub blobs: u64,
    /// Whether the backup came with blobs. If not, edges give back what they hold.
    pub has_blobs: bool,
}

/// Fills the empty control that `config` describes. Control must not run. The audit log goes on where
/// that of the backup ends, with who did this, `now`.
pub async fn restore(
    config: &ControlConfig,
    backup: impl Read + Send + 'static,
    now: SystemTime,
) -> Result<Restored, RestoreError> {
    let dir = config.state_dir.clone();
    let _state = blocking(move || StateDir::lock(&dir)).await?;
    let database = config.state_dir.join("control.db");
    // A new key would open nothing of the backup.
    let seal = |_| open_seal(config, false);
    let store = Store::open(config.database.url.as_deref(), &database, seal).await;
    let store = store.map_err(|error| match error {
        OpenError::Seal(source) => RestoreError::Key(source),
        error => RestoreError::Database(error),
    })?;
    let restored = fill(&store, config, backup, now.into()).await;
    store.close().await;
    restored
}

async fn fill(
    store: &Store,
    config: &ControlConfig,
    backup: impl Read + Send + 'static,
    now: Timestamp,
) -> Result<Restored, RestoreError> {
    if !store.is_unused().await? {
        return Err(RestoreError::NotEmpty);
    }
    let (dir, reserve_bytes) = (config.state_dir.join("blobs"), config.blobs.reserve_bytes);
    let (sender, rows) = mpsc::channel(ROWS_MAX);
    let read = blocking(move || {
        let options = StoreOptions { reserve_bytes, ..StoreOptions::default() };
        read(backup, &mut Entering { rows: sender, dir, options, store: None })
    });
    let mut tx = store.begin().await?;
    tx.clear().await?;
    let (entered, read) = tokio::join!(enter(&mut tx, rows), read);
    // What is wrong with the file says more than that no more rows came of it.
    let restored = read?;
    if entered? != restored.rows {
        return Err(RestoreError::CutOff);
    }
    tx.check_secrets().await?;
    let deed = Deed::new("control.restore", "backup")
        .detail("created_at", restored.created_at)
        .detail("rows", restored.rows)
        .detail("blobs", restored.blobs);
    tx.audit_by(Actor::operator(), now, deed).await?;
    tx.commit().await?;
    Ok(restored)
}

async fn enter(
    tx: &mut Tx,
    mut rows: mpsc::Receiver<(String, Cells)>,
) -> Result<u64, RestoreError> {
    let (mut columns, mut count) = (Columns::default(), 0);
    while let Some((table, cells)) = rows.recv().await {
        tx.restore(&mut columns, &table, &cells).await?;
        count += 1;
    }
    Ok(count)
}

/// Reads a backup to its end and says what is in it; nothing is restored.
pub fn check(backup: impl Read) -> Result<Restored, RestoreError> {
    read(backup, &mut Checking)
}

/// What becomes of the parts of a backup. The bytes of a pack or blob are read to their end.
trait Sink {
    /// False: whoever takes the rows has given up.
    fn row(&mut self, table: String, cells: Cells) -> bool;
    fn pack(&mut self, bytes: u64, from: &mut impl Read) -> Result<(), RestoreError>;
    fn blob(
        &mut self,
        digest: Digest,
        bytes: u64,
        from: &mut impl Read,
    ) -> Result<(), RestoreError>;
}

fn read(backup: impl Read, sink: &mut impl Sink) -> Result<Restored, RestoreError> {
    let decoder = zstd::Decoder::new(backup)?;
    let mut lines = Hashing::new(BufReader::with_capacity(BUFFER_BYTES, decoder));
    let head = head(&mut lines)?;
    while let Some((line, before)) = lines.next_line()? {
        match line {
            Line::Row { table, cells } => {
                // Whoever took the rows knows why it stopped.
                if !sink.row(table, cells) {
                    return Ok(restored(&head, &End { rows: 0, blobs: 0, digest: before }));
                }
            }
            Line::Pack { bytes } => sink.pack(bytes, &mut lines)?,
            Line::Blob { digest, bytes } => sink.blob(digest, bytes, &mut lines)?,
            Line::End(end) if end.digest == before => return Ok(restored(&head, &end)),
            Line::End(_) | Line::Head(_) => return Err(RestoreError::Digest),
        }
    }
    Err(RestoreError::CutOff)
}

fn head(lines: &mut Hashing<impl io::BufRead>) -> Result<Head, RestoreError> {
    match lines.next_line()? {
        Some((Line::Head(head), _)) if head.format == FORMAT && head.version == VERSION => Ok(head),
        Some((Line::Head(head), _)) => Err(RestoreError::Version { nigh: head.nigh }),
        Some(_) => Err(RestoreError::Digest),
        None => Err(RestoreError::CutOff),
    }
}

fn restored(head: &Head, end: &End) -> Restored {
    let End { rows, blobs, .. } = *end;
    Restored { created_at: head.created_at, rows, blobs, has_blobs: head.has_blobs }
}

/// Reads, and keeps nothing.
struct Checking;

impl Sink for Checking {
    fn row(&mut self, _: String, _: Cells) -> bool {
        true
    }

    fn pack(&mut self, bytes: u64, from: &mut impl Read) -> Result<(), RestoreError> {
        Ok(skip(from, bytes)?)
    }

    fn blob(&mut self, _: Digest, bytes: u64, from: &mut impl Read) -> Result<(), RestoreError> {
        Ok(skip(from, bytes)?)
    }
}

/// Hands rows on and keeps blobs.
struct Entering {
    rows: mpsc::Sender<(String, Cells)>,
    dir: PathBuf,
    options: StoreOptions,
    /// Opened at the first blob: a backup may have none.
    store: Option<BlobStore>,
}

impl Entering {
    fn store(&mut self) -> Result<&BlobStore, RestoreError> {
        if self.store.is_none() {
            self.store = Some(BlobStore::open_with(&self.dir, self.options.clone())?);
        }
        self.store.as_ref().ok_or(RestoreError::CutOff)
    }
}

impl Sink for Entering {
    fn row(&mut self, table: String, cells: Cells) -> bool {
        self.rows.blocking_send((table, cells)).is_ok()
    }

    fn pack(&mut self, bytes: u64, from: &mut impl Read) -> Result<(), RestoreError> {
        let mut pack = from.take(bytes);
        self.store()?.insert_pack(&mut pack)?;
        if pack.limit() == 0 { Ok(()) } else { Err(RestoreError::CutOff) }
    }

    fn blob(
        &mut self,
        digest: Digest,
        bytes: u64,
        from: &mut impl Read,
    ) -> Result<(), RestoreError> {
        if bytes > BLOB_MAX_BYTES {
            return Err(RestoreError::Digest);
        }
        let mut partial = self.store()?.begin(digest, bytes)?;
        // A restore that was interrupted has left the beginning here.
        skip(from, partial.offset())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = bytes - partial.offset().min(bytes);
        while left > 0 {
            let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            from.read_exact(&mut buffer[..length])?;
            partial.append(&buffer[..length])?;
            left -= length as u64;
        }
        partial.finish()?;
        Ok(())
    }
}

fn skip(from: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::fixture::{Fixture, docs},
        blobs::stream,
        seal::Seal,
        store::AuditFilter,
    };
    use futures_util::TryStreamExt as _;

    /// A backup of a control with one release, and that control.
    async fn backup(with_blobs: bool) -> (Fixture, Vec<u8>) {
        let fixture = Fixture::new().await;
        fixture.push("one").await;
        let backup = fixture.app.back_up(with_blobs).await.unwrap();
        let (writer, body) = stream();
        let sending = tokio::task::spawn_blocking(move || backup.send(writer));
        let bytes = body.try_fold(Vec::new(), async |mut all: Vec<u8>, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        });
        let bytes = bytes.await.unwrap();
        sending.await.unwrap();
        (fixture, bytes)
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000)
    }

    fn empty() -> (tempfile::TempDir, ControlConfig) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret.key"), "07".repeat(32)).unwrap();
        let config = ControlConfig::new(dir.path().to_owned());
        (dir, config)
    }

    #[tokio::test]
    async fn an_empty_control_is_what_the_old_one_was() {
        let (old, bytes) = backup(true).await;
        let (dir, config) = empty();
        let restored = restore(&config, io::Cursor::new(bytes), now()).await.unwrap();
        assert!(
            restored.has_blobs && restored.blobs == 3,
            "manifest, rules and page: {restored:?}"
        );
        let file = dir.path().join("control.db");
        let store = Store::open(None, &file, |_| Ok(Seal::new([7; 32]))).await.unwrap();
        let world = store.world().await.unwrap();
        assert_eq!(world.fleet, old.app.world().fleet, "it is the same fleet");
        let log = store.audit(&AuditFilter::default(), 9).await.unwrap();
        assert_eq!((log[0].verb.as_str(), log[0].at), ("control.restore", now().into()));
        assert_eq!(log[0].actor_kind, "operator");
        assert!(log[0].hash == log[0].chained(&log[1].hash), "the chain goes on: {log:?}");
        assert_eq!(world.sites[0].releases, old.app.world().site(&docs()).unwrap().releases);
        let blobs = BlobStore::open(&dir.path().join("blobs")).unwrap();
        assert_eq!(blobs.read(&Digest::of(b"one")).unwrap(), b"one");
    }

    #[tokio::test]
    async fn a_backup_that_is_cut_off_or_damaged_restores_nothing() {
        let (_old, bytes) = backup(true).await;
        assert_eq!(check(&bytes[..]).unwrap().blobs, 3);
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            let (dir, config) = empty();
            let failed = restore(&config, io::Cursor::new(bytes[..cut].to_vec()), now()).await;
            assert!(failed.is_err() && check(&bytes[..cut]).is_err(), "cut at {cut}");
            let file = dir.path().join("control.db");
            let store = Store::open(None, &file, |_| Ok(Seal::new([7; 32]))).await.unwrap();
            assert!(store.is_unused().await.unwrap(), "cut at {cut}");
        }
        for at in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            let (_dir, config) = empty();
            let failed = restore(&config, io::Cursor::new(damaged), now()).await;
            assert!(failed.is_err(), "damaged at {at}");
        }
    }

    #[tokio::test]
    async fn a_control_in_use_or_with_another_key_is_left_alone() {
        let (_old, bytes) = backup(false).await;
        let (dir, config) = empty();
        restore(&config, io::Cursor::new(bytes.clone()), now()).await.unwrap();
        let again = restore(&config, io::Cursor::new(bytes.clone()), now()).await;
        assert!(matches!(again, Err(RestoreError::NotEmpty)), "{again:?}");

        let (_dir, other) = empty();
        std::fs::write(other.state_dir.join("secret.key"), "08".repeat(32)).unwrap();
        let wrong = restore(&other, io::Cursor::new(bytes.clone()), now()).await;
        assert!(matches!(wrong, Err(RestoreError::WrongKey(_))), "{wrong:?}");

        std::fs::remove_file(other.state_dir.join("secret.key")).unwrap();
        let missing = restore(&other, io::Cursor::new(bytes), now()).await;
        assert!(matches!(missing, Err(RestoreError::Key(_))), "{missing:?}");
        drop(dir);
    }
}
