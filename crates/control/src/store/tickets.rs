//! Which keys do edges seal TLS session tickets with?

use nigh_proto::{Timestamp, state::TicketKey};

use super::{
    Store, StoreError, Tx,
    sql::{Row, query},
};
use crate::seal::Seal;

/// A key, with when it was made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TicketKeyRow {
    pub key: TicketKey,
    pub created_at: Timestamp,
}

fn purpose(name: &str) -> String {
    format!("ticket key {name}")
}

impl TicketKeyRow {
    pub(super) fn read(row: &Row, seal: &Seal) -> Result<Self, StoreError> {
        let name: String = row.get("name")?;
        let secret: String = row.get("secret")?;
        let key = seal.reveal(&purpose(&name), &secret)?;
        Ok(Self {
            key: TicketKey { name, key, not_after: row.time("not_after")? },
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    /// The newest first.
    pub(crate) async fn ticket_keys(&self) -> Result<Vec<TicketKeyRow>, StoreError> {
        let rows = query("SELECT * FROM ticket_keys ORDER BY created_at DESC, name")
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| TicketKeyRow::read(row, &self.seal)).collect()
    }
}

impl Tx {
    pub(crate) async fn insert_ticket_key(&mut self, row: &TicketKeyRow) -> Result<(), StoreError> {
        let TicketKey { name, key, not_after } = &row.key;
        query(
            "INSERT INTO ticket_keys (name, secret, created_at, not_after) VALUES ($1, $2, $3, $4)",
        )
        .bind(name)
        .bind(self.seal.seal(&purpose(name), key))
        .bind(row.created_at.unix_ms())
        .bind(not_after.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Forgets keys that ended by `now`.
    pub(crate) async fn expire_ticket_keys(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        query("DELETE FROM ticket_keys WHERE not_after <= $1")
            .bind(now.unix_ms())
            .execute(&mut self.on)
            .await
    }
}
