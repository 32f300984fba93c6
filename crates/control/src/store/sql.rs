//! How is one statement put to either database?
//!
//! SQLite and PostgreSQL have drivers with types of their own. A [`Query`] keeps the statement and
//! its values until it is known which of them answers; a [`Row`] is read the same way whichever
//! did. Statements keep to what both understand: `$1` parameters, `ON CONFLICT`, `RETURNING`; where
//! they have no words in common, there is one for [each](query_each).

use futures_util::{StreamExt as _, stream::BoxStream};
use sqlx::{
    Column as _, Executor as _, PgPool, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, SqlitePool,
    Transaction, TypeInfo as _, ValueRef as _, postgres::PgRow, sqlite::SqliteRow,
};

use super::StoreError;

/// Connections to one of the databases; cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// One connection within a transaction. Dropped without a commit, nothing happened.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Where a query runs.
pub(super) enum On<'c> {
    Pool(&'c Pool),
    Connection(&'c mut Connection),
}

impl<'c> From<&'c Pool> for On<'c> {
    fn from(pool: &'c Pool) -> Self {
        On::Pool(pool)
    }
}

impl<'c> From<&'c mut Connection> for On<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        On::Connection(connection)
    }
}

impl Pool {
    pub(super) async fn begin(&self) -> Result<Connection, StoreError> {
        Ok(match self {
            Pool::Sqlite(pool) => Connection::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => Connection::Postgres(pool.begin().await?),
        })
    }

    /// A transaction for reading that sees one moment, however many statements it takes.
    pub(super) async fn snapshot(&self) -> Result<Connection, StoreError> {
        let mut connection = self.begin().await?;
        // SQLite's readers always do.
        if let Connection::Postgres(tx) = &mut connection {
            tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        }
        Ok(connection)
    }

    pub(super) async fn close(&self) {
        match self {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

impl Connection {
    pub(super) const fn is_postgres(&self) -> bool {
        matches!(self, Connection::Postgres(_))
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Connection::Sqlite(tx) => tx.commit().await?,
            Connection::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A value of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Bool(bool),
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! values {
    ($($from:ty => $kind:ident $with:expr),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                let with: fn($from) -> _ = $with;
                Value::$kind(with(value))
            }
        }
    )*};
}

values! {
    bool => Bool |value| value,
    i64 => Int Some,
    Option<i64> => Int |value| value,
    &str => Text |value| Some(value.to_owned()),
    &String => Text |value| Some(value.clone()),
    String => Text Some,
    Option<&str> => Text |value| value.map(str::to_owned),
    Option<String> => Text |value| value,
    &[u8] => Bytes |value| Some(value.to_vec()),
    Vec<u8> => Bytes Some,
    Option<Vec<u8>> => Bytes |value| value,
}

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Query {
    sql: SqlStr,
    /// What PostgreSQL is asked instead, where the two have no words in common.
    postgres: Option<SqlStr>,
    values: Vec<Value>,
}

/// Begins a statement.
pub(super) fn query(sql: impl SqlSafeStr) -> Query {
    Query { sql: sql.into_sql_str(), postgres: None, values: Vec::new() }
}

/// Begins a statement that each database is asked in words of its own.
pub(super) fn query_each(sqlite: &'static str, postgres: &'static str) -> Query {
    Query { postgres: Some(postgres.into_sql_str()), ..query(sqlite) }
}

/// The statement for one driver.
macro_rules! prepared {
    (Sqlite, $query:expr) => {{
        // The lock of the state directory keeps other programs from changing this schema.
        prepared!($query.sql, $query.values, true)
    }};
    (Postgres, $query:expr) => {{
        // PostgreSQL refuses a prepared `SELECT *` for good once a newer control added a column.
        let is_kept = $query.postgres.is_some() || !$query.sql.as_str().contains('*');
        prepared!($query.postgres.unwrap_or($query.sql), $query.values, is_kept)
    }};
    ($sql:expr, $values:expr, $is_kept:expr) => {{
        let query = sqlx::query($sql).persistent($is_kept);
        $values.into_iter().fold(query, |query, value| match value {
            Value::Bool(value) => query.bind(value),
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        })
    }};
}

/// Runs `$method` of the statement wherever `$on` is; rows go through `$as`.
macro_rules! run {
    ($query:expr, $on:expr, $method:ident, |$done:ident, $row:ident| $as:expr) => {
        match $on.into() {
            On::Pool(Pool::Sqlite(pool)) => {
                let ($row, $done) = (Row::Sqlite, prepared!(Sqlite, $query).$method(pool).await?);
                $as
            }
            On::Connection(Connection::Sqlite(tx)) => {
                let ($row, $done) =
                    (Row::Sqlite, prepared!(Sqlite, $query).$method(&mut **tx).await?);
                $as
            }
            On::Pool(Pool::Postgres(pool)) => {
                let ($row, $done) =
                    (Row::Postgres, prepared!(Postgres, $query).$method(pool).await?);
                $as
            }
            On::Connection(Connection::Postgres(tx)) => {
                let ($row, $done) =
                    (Row::Postgres, prepared!(Postgres, $query).$method(&mut **tx).await?);
                $as
            }
        }
    };
}

impl Query {
    /// Gives the next parameter its value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows were changed.
    pub(super) async fn execute(self, on: impl Into<On<'_>>) -> Result<u64, StoreError> {
        Ok(run!(self, on, execute, |done, _row| done.rows_affected()))
    }

    pub(super) async fn fetch_all(self, on: impl Into<On<'_>>) -> Result<Vec<Row>, StoreError> {
        Ok(run!(self, on, fetch_all, |rows, row| rows.into_iter().map(row).collect()))
    }

    pub(super) async fn fetch_optional(
        self,
        on: impl Into<On<'_>>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(run!(self, on, fetch_optional, |found, row| found.map(row)))
    }

    pub(super) async fn fetch_one(self, on: impl Into<On<'_>>) -> Result<Row, StoreError> {
        Ok(run!(self, on, fetch_one, |found, row| row(found)))
    }

    /// The first column of the only row.
    pub(super) async fn scalar<T: Column>(self, on: impl Into<On<'_>>) -> Result<T, StoreError> {
        match self.fetch_one(on).await? {
            Row::Sqlite(row) => Ok(row.try_get(0)?),
            Row::Postgres(row) => Ok(row.try_get(0)?),
        }
    }

    /// Row by row, for answers that are too many to hold.
    pub(super) fn fetch<'c>(self, on: impl Into<On<'c>>) -> BoxStream<'c, Result<Row, StoreError>> {
        let sqlite = |row: sqlx::Result<SqliteRow>| row.map(Row::Sqlite).map_err(StoreError::from);
        let postgres = |row: sqlx::Result<PgRow>| row.map(Row::Postgres).map_err(StoreError::from);
        match on.into() {
            On::Pool(Pool::Sqlite(pool)) => prepared!(Sqlite, self).fetch(pool).map(sqlite).boxed(),
            On::Connection(Connection::Sqlite(tx)) => {
                prepared!(Sqlite, self).fetch(&mut **tx).map(sqlite).boxed()
            }
            On::Pool(Pool::Postgres(pool)) => {
                prepared!(Postgres, self).fetch(pool).map(postgres).boxed()
            }
            On::Connection(Connection::Postgres(tx)) => {
                prepared!(Postgres, self).fetch(&mut **tx).map(postgres).boxed()
            }
        }
    }
}

/// The columns of one driver's row.
macro_rules! cells {
    ($row:expr) => {
        $row.columns()
            .iter()
            .map(|column| {
                let at = column.ordinal();
                let raw = $row.try_get_raw(at)?;
                let kind = raw.type_info().name().to_owned();
                let value = match &*kind {
                    _ if raw.is_null() => Value::Text(None),
                    "BOOLEAN" | "BOOL" => Value::Bool($row.try_get_unchecked(at)?),
                    "INTEGER" | "INT8" => Value::Int($row.try_get_unchecked(at)?),
                    "INT4" => {
                        let value: Option<i32> = $row.try_get_unchecked(at)?;
                        Value::Int(value.map(i64::from))
                    }
                    "TEXT" => Value::Text($row.try_get_unchecked(at)?),
                    "BLOB" | "BYTEA" => Value::Bytes($row.try_get_unchecked(at)?),
                    _ => {
                        let column = "of a table";
                        return Err(StoreError::Damaged { column, text: kind });
                    }
                };
                Ok((column.name().to_owned(), value))
            })
            .collect()
    };
}

/// What a statement answered with.
#[derive(Debug)]
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn get<T: Column>(&self, column: &'static str) -> Result<T, StoreError> {
        Ok(match self {
            Row::Sqlite(row) => row.try_get(column)?,
            Row::Postgres(row) => row.try_get(column)?,
        })
    }

    /// Every column with what is in it, for those who do not know the table.
    pub(super) fn cells(&self) -> Result<Vec<(String, Value)>, StoreError> {
        match self {
            Row::Sqlite(row) => cells!(row),
            Row::Postgres(row) => cells!(row),
        }
    }
}

/// What a column can hold in both databases.
pub(super) trait Column:
    for<'r> sqlx::Decode<'r, Sqlite>
    + sqlx::Type<Sqlite>
    + for<'r> sqlx::Decode<'r, Postgres>
    + sqlx::Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'r> sqlx::Decode<'r, Sqlite>
        + sqlx::Type<Sqlite>
        + for<'r> sqlx::Decode<'r, Postgres>
        + sqlx::Type<Postgres>
{
}
