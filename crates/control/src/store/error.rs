//! What can keep control from remembering?

use std::{io, path::PathBuf};

use sqlx::error::ErrorKind;

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
    #[error(
        "cannot bring the database {database} to this version's schema; was it used by a newer nigh?"
    )]
    Migrate { database: String, source: sqlx::migrate::MigrateError },
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
    #[error("the database cannot be asked")]
    Query(#[source] sqlx::Error),
    #[error(transparent)]
    Sealed(#[from] WrongKey),
    #[error("the database holds {text:?} in column {column}, which this version cannot read")]
    Damaged { column: &'static str, text: String },
}

/// `SQLITE_FULL`: no room on the disk, or in the quota.
const SQLITE_FULL: &str = "13";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(database) if database.kind() == ErrorKind::UniqueViolation => Self::Taken(error),
            Some(database) if database.code().is_some_and(|code| code == SQLITE_FULL) => {
                Self::Full(error)
            }
            _ => Self::Query(error),
        }
    }
}
