//! What does control remember, and how is it asked?
//!
//! The only place with SQL. Every query is a method with typed arguments and rows; which of them
//! belong together is decided in `app`, which opens a [`Tx`], calls its methods and commits. The
//! SQL keeps to what SQLite and PostgreSQL share: `$1` parameters, `ON CONFLICT`, no text dates.
//! Only lists, which `documents` reads as JSON, name functions of each.

mod acme;
mod audit;
mod authorities;
mod backup;
mod bucket;
mod bucket_uploads;
mod candidates;
mod certificates;
mod controls;
mod documents;
mod error;
mod events;
mod fleets;
mod idempotency;
mod machines;
mod releases;
mod row;
mod sites;
mod sql;
mod tally;
mod term;
mod tickets;
mod tokens;
mod variants;
mod webhooks;
mod world;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use nigh_proto::Digest;
use sqlx::{
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub(crate) use acme::{ChallengeKind, ChallengeRow, OrderRow};
pub(crate) use audit::{AuditFilter, Deed};
pub(crate) use authorities::AuthorityRow;
pub(crate) use backup::{Cells, Columns, RowError};
pub(crate) use bucket::{ObjectRow, PlaceRow};
pub(crate) use bucket_uploads::UploadRow;
pub(crate) use candidates::CandidateRow;
pub(crate) use certificates::{CertificateRow, LOST_CONTROL, Source};
pub(crate) use controls::{HeardRow, Listener, News, Session, ToldRow};
pub(crate) use error::{OpenError, StoreError};
pub(crate) use events::Reading;
pub(crate) use fleets::{Outcome, SettledRow};
pub(crate) use idempotency::{Claim, KeptAnswer, RENEW_MS};
pub(crate) use machines::{JoinTokenRow, MachineRow};
pub(crate) use releases::{ReleaseFilter, ReleaseRow};
pub(crate) use sites::{HostRow, ListedSite, SiteRow};
pub(crate) use tally::Tally;
pub(crate) use term::{in_term, in_this_term};
pub(crate) use tickets::TicketKeyRow;
pub(crate) use tokens::TokenRow;
pub(crate) use variants::VariantRow;
pub(crate) use webhooks::WebhookRow;

use crate::seal::{KeyFileError, Seal};
use sql::{Connection, Pool, query};

/// How long a statement waits for another process that has the file, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers at once; SQLite lets them go on beside the one writer.
const READERS_MAX: u32 = 4;
/// Prepared statements of each connection to SQLite: more than control has.
const STATEMENTS_KEPT: usize = 512;
/// Connections of one control to PostgreSQL, besides two for listening and for the lead.
const CONNECTIONS_MAX: u32 = 8;
/// How long a call waits for a connection while PostgreSQL is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// No statement of control takes so long, unless it waits for one that never ends.
const STATEMENT_TIMEOUT: &str = "60s";
/// A control that hangs or is cut off must not hold up the others: the server ends its sessions.
const SESSION: [(&str, &str); 4] = [
    ("idle_in_transaction_session_timeout", "15s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
];

/// Control's database; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// Where transactions begin. SQLite: one connection, so that writers queue here and never
    /// fail with "busy".
    writer: Pool,
    reader: Pool,
    /// Closes and opens the secrets in columns.
    seal: Seal,
}

/// A transaction of the one writer. Dropped without [`commit`](Tx::commit), nothing happened.
#[derive(Debug)]
pub(crate) struct Tx {
    on: Connection,
    seal: Seal,
    /// Whether the audit log says already what this does, or need not.
    is_recorded: bool,
}

impl Store {
    /// Opens the database at `url` (`sqlite:PATH` or `postgres://…`), or `default_file`, and brings
    /// its schema up to date.
    ///
    /// `seal` is asked for the key, and told whether the database is new: only then may it make
    /// one, since another key would open nothing of an old one.
    pub(crate) async fn open(
        url: Option<&str>,
        default_file: &Path,
        seal: impl FnOnce(bool) -> Result<Seal, KeyFileError>,
    ) -> Result<Self, OpenError> {
        let (writer, reader) = match url {
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                open_postgres(url).await?
            }
            Some(url) => {
                let options = SqliteConnectOptions::from_str(url).map_err(OpenError::Url)?;
                open_sqlite(options).await?
            }
            None => open_sqlite(SqliteConnectOptions::new().filename(default_file)).await?,
        };
        let authorities: i64 = query("SELECT count(*) FROM authorities").scalar(&reader).await?;
        let seal = seal(authorities == 0)?;
        Ok(Self { writer, reader, seal })
    }

    /// Begins a transaction; waits for the one before it.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        let mut connection = self.writer.begin().await?;
        // Verbs read before they write, so they go one after the other, on however many controls.
        if let Connection::Postgres(_) = &connection {
            let now: i64 = query("SELECT term FROM fleet WHERE id = 1 FOR UPDATE")
                .scalar(&mut connection)
                .await?;
            if term::current().is_some_and(|term| term != now) {
                return Err(StoreError::LeadLost);
            }
        }
        Ok(Tx { on: connection, seal: self.seal.clone(), is_recorded: false })
    }

    /// Begins a transaction for control's own books, which changes nothing that anybody asked for.
    pub(crate) async fn begin_unrecorded(&self) -> Result<Tx, StoreError> {
        Ok(Tx { is_recorded: true, ..self.begin().await? })
    }

    /// The revision of what was committed last.
    pub(crate) async fn revision(&self) -> Result<u64, StoreError> {
        let revision: i64 =
            query("SELECT revision FROM fleet WHERE id = 1").scalar(&self.reader).await?;
        Ok(revision.unsigned_abs())
    }

    /// Proves that the database can be written, by writing.
    pub(crate) async fn check_writable(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        query("UPDATE fleet SET revision = revision WHERE id = 1").execute(&mut tx.on).await?;
        tx.commit().await
    }

    /// Closes the database; waits for statements under way.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

impl Tx {
    /// Makes everything since [`Store::begin`] durable, and with it the record of who asked.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.record_request().await?;
        self.on.commit().await
    }

    /// The revision as this transaction sees it.
    pub(crate) async fn revision(&mut self) -> Result<u64, StoreError> {
        let revision: i64 =
            query("SELECT revision FROM fleet WHERE id = 1").scalar(&mut self.on).await?;
        Ok(revision.unsigned_abs())
    }

    /// Notes what the settings are known by; whether they were others.
    pub(crate) async fn set_settings(&mut self, settings: Digest) -> Result<bool, StoreError> {
        let row = query("SELECT settings FROM fleet WHERE id = 1").fetch_one(&mut self.on).await?;
        if row.digest_optional("settings")? == Some(settings) {
            return Ok(false);
        }
        query("UPDATE fleet SET settings = $1 WHERE id = 1")
            .bind(&settings.as_bytes()[..])
            .execute(&mut self.on)
            .await?;
        Ok(true)
    }

    /// Raises the fleet's revision: what this transaction changes is for machines. Returns it.
    pub(crate) async fn raise_revision(&mut self) -> Result<u64, StoreError> {
        self.raise_revision_to(0).await
    }

    /// Raises the revision by one, or to `floor` when that is more.
    pub(crate) async fn raise_revision_to(&mut self, floor: u64) -> Result<u64, StoreError> {
        let floor = i64::try_from(floor).unwrap_or(i64::MAX);
        let revision: i64 = query(
            "UPDATE fleet SET revision = CASE WHEN revision + 1 > $1 THEN revision + 1 ELSE $1 END \
             WHERE id = 1 RETURNING revision",
        )
        .bind(floor)
        .scalar(&mut self.on)
        .await?;
        controls::announce(&mut self.on, revision).await?;
        Ok(revision.unsigned_abs())
    }
}

/// The file is made readable for its owner only: it tells who may do what.
async fn open_sqlite(options: SqliteConnectOptions) -> Result<(Pool, Pool), OpenError> {
    let file = options.get_filename().to_path_buf();
    create_private(&file).map_err(|source| OpenError::File { file: file.clone(), source })?;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .foreign_keys(true);
    let database = file.display().to_string();
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.clone())
        .await
        .map_err(|source| OpenError::open(&database, source))?;
    sqlx::migrate!("../../migrations/sqlite")
        .run(&writer)
        .await
        .map_err(|source| OpenError::migrate(&database, source))?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .min_connections(1)
        .connect_with(options)
        .await
        .map_err(|source| OpenError::open(&database, source))?;
    Ok((Pool::Sqlite(writer), Pool::Sqlite(reader)))
}

async fn open_postgres(url: &str) -> Result<(Pool, Pool), OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(OpenError::Url)?;
    let options = options.application_name("nigh control").options(SESSION);
    let database =
        format!("{} on {}", options.get_database().unwrap_or("nigh"), options.get_host());
    let pool = || PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
    let migrating = pool()
        .max_connections(1)
        .connect_with(options.clone())
        .await
        .map_err(|source| OpenError::open(&database, source))?;
    sqlx::migrate!("../../migrations/postgres")
        .run(&migrating)
        .await
        .map_err(|source| OpenError::migrate(&database, source))?;
    migrating.close().await;
    let pool = pool()
        .max_connections(CONNECTIONS_MAX)
        .connect_with(options.options([("statement_timeout", STATEMENT_TIMEOUT)]))
        .await
        .map_err(|source| OpenError::open(&database, source))?;
    Ok((Pool::Postgres(pool.clone()), Pool::Postgres(pool)))
}

fn create_private(file: &PathBuf) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}

#[cfg(test)]
mod tests;
