//! What can keep control from remembering?

use std::{io, path::PathBuf};

use sqlx::{error::ErrorKind, migrate::MigrateError, sqlite::SqliteError};

use crate::seal::{KeyFileError, WrongKey};

/// Why the database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "database.url is not one that control understands; try sqlite:/path/to/control.db or \
         postgres://user@host/database"
    )]
    Url(#[source] sqlx::Error),
    #[error("cannot open or make {file}", file = file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("cannot open the database {database}")]
    Open { database: String, source: sqlx::Error },
    #[error("cannot use the database {database}")]
    Trouble { database: String, source: StoreError },
    #[error(
        "the database {database} does not let this role in; check the password in database.url"
    )]
    Password { database: String, source: sqlx::Error },
    #[error("there is no database {database}; make it with `createdb`")]
    Absent { database: String, source: sqlx::Error },
    #[error(
        "the database {database} belongs to a newer nigh: its schema has migration {version}, which \
         this version does not know. Nothing was changed. Start the newer version, or restore a \
         backup that was made with this one"
    )]
    Newer { database: String, version: i64 },
    #[error("cannot bring the database {database} to this version's schema")]
    Migrate { database: String, source: MigrateError },
    #[error("the database cannot be read")]
    Read(#[from] StoreError),
    #[error("the secrets in the database cannot be opened")]
    Seal(#[from] KeyFileError),
}

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A name is taken, by a unique index.
    #[error("this name is taken")]
    Taken(#[source] sqlx::Error),
    #[error("the disk that holds the database is full; make room on it")]
    Full(#[source] sqlx::Error),
    #[error(
        "another program holds the database locked; let it end (a backup, a `sqlite3` that was left open)"
    )]
    Locked(#[source] sqlx::Error),
    #[error(
        "the database can only be read; make its file and folder writable, or point database.url at \
         the primary server"
    )]
    ReadOnly(#[source] sqlx::Error),
    #[error("the database server cannot be reached; control goes on as soon as it can")]
    Unreachable(#[source] sqlx::Error),
    #[error("the database cannot be asked")]
    Query(#[source] sqlx::Error),
    #[error("another control leads by now")]
    LeadLost,
    #[error(
        "another control works on this database and not both keep blobs in a bucket: give every \
         control the same blobs.bucket, or run only one"
    )]
    NotAlone,
    #[error(transparent)]
    Sealed(#[from] WrongKey),
    #[error("the database holds {text:?} in column {column}, which this version cannot read")]
    Damaged { column: &'static str, text: String },
    #[error("the database holds a row that this version cannot read")]
    DamagedRow(#[source] serde_json::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match trouble(&error) {
            Trouble::Taken => Self::Taken(error),
            Trouble::Full => Self::Full(error),
            Trouble::Locked => Self::Locked(error),
            Trouble::ReadOnly => Self::ReadOnly(error),
            Trouble::Unreachable => Self::Unreachable(error),
            Trouble::Other => Self::Query(error),
        }
    }
}

/// What is wrong, in the words of neither database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Taken,
    Full,
    Locked,
    ReadOnly,
    Unreachable,
    Other,
}

fn trouble(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Database(database) if database.kind() == ErrorKind::UniqueViolation => {
            Trouble::Taken
        }
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let is_sqlite = database.try_downcast_ref::<SqliteError>().is_some();
            if is_sqlite { of_sqlite(&code) } else { of_postgres(&code) }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => Trouble::Unreachable,
        _ => Trouble::Other,
    }
}

/// By the primary result code, the low byte: <https://sqlite.org/rescode.html>.
fn of_sqlite(code: &str) -> Trouble {
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => Trouble::Locked,
        Ok(8) => Trouble::ReadOnly,
        Ok(13) => Trouble::Full,
        _ => Trouble::Other,
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(code: &str) -> Trouble {
    match code {
        "53100" => Trouble::Full,
        "55P03" => Trouble::Locked,
        "25006" => Trouble::ReadOnly,
        "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Trouble::Unreachable,
        code if code.starts_with("08") => Trouble::Unreachable,
        _ => Trouble::Other,
    }
}

impl OpenError {
    /// The database could not be opened at all.
    pub(super) fn open(database: &str, source: sqlx::Error) -> Self {
        let database = database.to_owned();
        let code = source.as_database_error().and_then(|error| error.code());
        match (code.as_deref(), trouble(&source)) {
            (Some("28P01" | "28000"), _) => Self::Password { database, source },
            (Some("3D000"), _) => Self::Absent { database, source },
            (_, Trouble::Other | Trouble::Taken) => Self::Open { database, source },
            _ => Self::Trouble { database, source: source.into() },
        }
    }

    /// Its schema could not be brought up to date.
    pub(super) fn migrate(database: &str, source: MigrateError) -> Self {
        let database = database.to_owned();
        match source {
            MigrateError::VersionMissing(version) => Self::Newer { database, version },
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)
                if trouble(&source) != Trouble::Other =>
            {
                Self::Trouble { database, source: source.into() }
            }
            source => Self::Migrate { database, source },
        }
    }
}
