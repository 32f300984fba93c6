//! Which rows outlive a database, and how do they leave one and enter another?
//!
//! Rows leave as JSON objects, the same whichever database they come from: bytes are
//! `{"hex": "…"}`. They enter by the types of the columns that are there, so that a backup of SQLite
//! can be restored into PostgreSQL. Secrets stay sealed on the way.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value as Json, json};
use sqlx::AssertSqlSafe;
use tokio::sync::mpsc;

use super::{
    CertificateRow, Store, StoreError, Tx,
    sql::{Connection, Query, Value, query},
};

/// A row of any table.
pub(crate) type Cells = Map<String, Json>;

/// Every table that is kept, those that others refer to first.
const TABLES: &[&str] = &[
    "fleet",
    "settled_fleets",
    "authorities",
    "sites",
    "hosts",
    "releases",
    "machines",
    "lagging",
    "join_tokens",
    "tokens",
    "certificates",
    "candidates",
    "acme_accounts",
    "acme_setbacks",
    "acme_events",
    "ticket_keys",
    "variants",
    "event_log",
    "events",
    "webhooks",
    "webhook_deliveries",
    "bucket",
    "bucket_objects",
    "bucket_blobs",
    "audit_start",
    "audit",
];

/// Tables that say nothing of the fleet, or nothing that is true for long.
#[cfg(test)]
const NOT_KEPT: &[&str] = &[
    "_sqlx_migrations",
    "sqlite_sequence",
    "away",
    "machine_reports",
    // A CA is asked anew; what it was being shown is no longer looked at.
    "acme_orders",
    "acme_challenges",
    // What was on its way to the bucket is not: it begins anew.
    "bucket_uploads",
    "bucket_parts",
    // Whoever repeats a request after a restore repeats what the backup may not know.
    "idempotency",
];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Text,
    Bytes,
}

/// The columns of tables that rows have entered, so that they are asked for once.
#[derive(Debug, Default)]
pub(crate) struct Columns(HashMap<&'static str, Vec<(String, Kind)>>);

/// Why a row cannot enter.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error(
        "there is no table {table} in this version; restore with the nigh that made the backup"
    )]
    Table { table: String },
    #[error(
        "there is no column {column} in the table {table} of this version; restore with the nigh \
         that made the backup"
    )]
    Column { table: String, column: String },
    #[error("column {column} of the table {table} does not hold what it should")]
    Value { table: String, column: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Sends every row worth keeping, table by table, all of one moment; ends early when nobody
    /// receives them any more. Returns the revision of that moment.
    pub(crate) async fn dump(
        &self,
        rows: mpsc::Sender<(&'static str, Cells)>,
    ) -> Result<u64, StoreError> {
        let mut snapshot = self.reader.snapshot().await?;
        let revision: i64 =
            query("SELECT revision FROM fleet WHERE id = 1").scalar(&mut snapshot).await?;
        for &table in TABLES {
            let mut found =
                query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch(&mut snapshot);
            while let Some(row) = found.try_next().await? {
                let cells = row.cells()?.into_iter().map(|(name, value)| (name, shown(value)));
                if rows.send((table, cells.collect())).await.is_err() {
                    return Ok(revision.unsigned_abs());
                }
            }
        }
        Ok(revision.unsigned_abs())
    }

    /// Whether nobody has used the database yet.
    pub(crate) async fn is_unused(&self) -> Result<bool, StoreError> {
        let used: i64 = query(
            "SELECT (SELECT count(*) FROM sites) + (SELECT count(*) FROM machines) \
             + (SELECT count(*) FROM releases) AS used",
        )
        .scalar(&self.reader)
        .await?;
        Ok(used == 0)
    }
}

impl Tx {
    /// Empties every table that is kept: what a first start wrote makes room for a backup.
    pub(crate) async fn clear(&mut self) -> Result<(), StoreError> {
        // The audit log lets go of nothing else.
        query("UPDATE audit_start SET seq = 9223372036854775807").execute(&mut self.on).await?;
        for &table in TABLES.iter().rev() {
            query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut self.on).await?;
        }
        Ok(())
    }

    /// Whether the key at hand opens what has entered.
    pub(crate) async fn check_secrets(&mut self) -> Result<(), StoreError> {
        let sealed = query("SELECT * FROM certificates").fetch_all(&mut self.on).await?;
        for row in &sealed {
            CertificateRow::read(row, &self.seal)?;
        }
        self.authorities().await.map(drop)
    }

    /// Lets a row of a backup enter.
    pub(crate) async fn restore(
        &mut self,
        columns: &mut Columns,
        table: &str,
        cells: &Cells,
    ) -> Result<(), RowError> {
        let unknown = || RowError::Table { table: table.to_owned() };
        let table = *TABLES.iter().find(|known| **known == table).ok_or_else(unknown)?;
        if !columns.0.contains_key(table) {
            columns.0.insert(table, kinds(&mut self.on, table).await?);
        }
        let kinds = &columns.0[table];
        let mut values = Vec::with_capacity(cells.len());
        for (column, cell) in cells {
            let kind = kinds.iter().find(|(name, _)| name == column);
            let (_, kind) = kind.ok_or_else(|| RowError::Column {
                table: table.to_owned(),
                column: column.clone(),
            })?;
            values.push(read(*kind, cell).ok_or_else(|| RowError::Value {
                table: table.to_owned(),
                column: column.clone(),
            })?);
        }
        // The names are those of columns that exist, so nothing strange enters the statement.
        let columns: Vec<String> = cells.keys().map(|name| format!("\"{name}\"")).collect();
        let places: Vec<String> = (1..=cells.len()).map(|place| format!("${place}")).collect();
        let statement = format!(
            "INSERT INTO {table} ({columns}) VALUES ({places})",
            columns = columns.join(", "),
            places = places.join(", "),
        );
        let insert = values.into_iter().fold(query(AssertSqlSafe(statement)), Query::bind);
        insert.execute(&mut self.on).await?;
        Ok(())
    }
}

/// The columns of a table and what they hold.
async fn kinds(on: &mut Connection, table: &str) -> Result<Vec<(String, Kind)>, StoreError> {
    let sql = if on.is_postgres() {
        "SELECT column_name::text AS name, data_type::text AS kind FROM information_schema.columns \
         WHERE table_schema = current_schema() AND table_name = $1"
    } else {
        "SELECT name, type AS kind FROM pragma_table_info($1)"
    };
    let rows = query(sql).bind(table).fetch_all(on).await?;
    rows.iter().map(|row| Ok((row.get("name")?, kind(&row.get::<String>("kind")?)))).collect()
}

/// What the type of a column stands for, in either database's words.
fn kind(declared: &str) -> Kind {
    match &*declared.to_ascii_uppercase() {
        "BOOLEAN" => Kind::Bool,
        "BIGINT" | "INTEGER" => Kind::Int,
        "BLOB" | "BYTEA" => Kind::Bytes,
        _ => Kind::Text,
    }
}

fn shown(value: Value) -> Json {
    match value {
        Value::Bool(value) => Json::Bool(value),
        Value::Int(value) => json!(value),
        Value::Text(value) => json!(value),
        Value::Bytes(None) => Json::Null,
        Value::Bytes(Some(bytes)) => json!({ "hex": crate::seal::hex(&bytes) }),
    }
}

/// `None`: not what such a column holds.
fn read(kind: Kind, cell: &Json) -> Option<Value> {
    Some(match (kind, cell) {
        (Kind::Bool, Json::Bool(value)) => Value::Bool(*value),
        // SQLite has no booleans of its own.
        (Kind::Bool, Json::Number(value)) => Value::Bool(value.as_i64()? != 0),
        (Kind::Int, Json::Null) => Value::Int(None),
        (Kind::Int, Json::Number(value)) => Value::Int(Some(value.as_i64()?)),
        (Kind::Int, Json::Bool(value)) => Value::Int(Some(i64::from(*value))),
        (Kind::Text, Json::Null) => Value::Text(None),
        (Kind::Text, Json::String(value)) => Value::Text(Some(value.clone())),
        (Kind::Bytes, Json::Null) => Value::Bytes(None),
        (Kind::Bytes, Json::Object(value)) => {
            let text = value.get("hex").filter(|_| value.len() == 1)?;
            Value::Bytes(Some(crate::seal::unhex(text.as_str()?)?))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app::fixture::Fixture, seal::Seal};

    #[tokio::test]
    async fn every_table_is_kept_or_said_not_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.db");
        let store = Store::open(None, &file, |_| Ok(Seal::new([7; 32]))).await.unwrap();
        let tables = query("SELECT name FROM sqlite_master WHERE type = 'table'");
        for row in tables.fetch_all(&store.reader).await.unwrap() {
            let name: String = row.get("name").unwrap();
            let is_known = TABLES.contains(&&*name) || NOT_KEPT.contains(&&*name);
            assert!(is_known, "is {name} to be in a backup? say so in store/backup.rs");
        }
    }

    #[tokio::test]
    async fn rows_enter_another_database_as_they_were() {
        let fixture = Fixture::new().await;
        fixture.push("one").await;
        fixture.commit_join("fra1").await;
        let before = dumped(fixture.app.store()).await;
        assert!(before.iter().any(|(table, _)| *table == "releases"));

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.db");
        let other = Store::open(None, &file, |_| Ok(Seal::new([7; 32]))).await.unwrap();
        let mut tx = other.begin().await.unwrap();
        tx.clear().await.unwrap();
        let mut columns = Columns::default();
        for (table, cells) in &before {
            tx.restore(&mut columns, table, cells).await.unwrap();
        }
        tx.commit().await.unwrap();
        // Truth is a number in SQLite, so rows of PostgreSQL are compared by what they mean.
        assert_eq!(dumped(&other).await.len(), before.len());
        assert_eq!(
            other.world().await.unwrap().sites[0].releases,
            fixture.app.world().sites[0].releases
        );
    }

    async fn dumped(store: &Store) -> Vec<(&'static str, Cells)> {
        let (sender, mut rows) = mpsc::channel(1);
        let collect = async {
            let mut all = Vec::new();
            while let Some(row) = rows.recv().await {
                all.push(row);
            }
            all
        };
        let (dumped, all) = tokio::join!(store.dump(sender), collect);
        dumped.unwrap();
        all
    }

    #[tokio::test]
    async fn rows_of_another_version_are_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.db");
        let store = Store::open(None, &file, |_| Ok(Seal::new([7; 32]))).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let mut columns = Columns::default();
        let cells = |text: &str| serde_json::from_str::<Cells>(text).unwrap();
        let table = tx.restore(&mut columns, "wishes", &cells("{}")).await;
        assert!(matches!(table, Err(RowError::Table { .. })));
        let column = tx.restore(&mut columns, "sites", &cells(r#"{"colour": "red"}"#)).await;
        assert!(matches!(column, Err(RowError::Column { .. })));
        let value = tx.restore(&mut columns, "sites", &cells(r#"{"name": 5}"#)).await;
        assert!(matches!(value, Err(RowError::Value { .. })));
    }
}
