//! Which certificates wait to be proven by an edge?

use nigh_proto::{MachineName, Timestamp, zone::DnsName};

use super::{
    Source, Store, StoreError, Tx,
    certificates::{names_json, source_of},
    sql::{Row, query},
};
use crate::seal::Seal;

/// A new certificate that the fleet does not have yet.
#[derive(Clone, PartialEq)]
pub(crate) struct CandidateRow {
    /// The certificate that it will be.
    pub id: String,
    pub names: Vec<DnsName>,
    pub chain_pem: String,
    pub key_pem: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub source: Source,
    pub ca: Option<String>,
    /// The edge that was asked, and when.
    pub asked: Option<(MachineName, Timestamp)>,
    /// Why an edge could not serve with it.
    pub refused: Option<String>,
    pub created_at: Timestamp,
}

impl std::fmt::Debug for CandidateRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandidateRow")
            .field("id", &self.id)
            .field("asked", &self.asked)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

fn purpose(id: &str) -> String {
    format!("candidate {id}")
}

impl CandidateRow {
    pub(super) fn read(row: &Row, seal: &Seal) -> Result<Self, StoreError> {
        let id: String = row.get("id")?;
        let key: String = row.get("key_pem")?;
        let machine = row.parse_optional("machine")?;
        Ok(Self {
            key_pem: seal.reveal(&purpose(&id), &key)?,
            id,
            names: row.json("names")?,
            chain_pem: row.get("chain_pem")?,
            not_before: row.time("not_before")?,
            not_after: row.time("not_after")?,
            source: source_of(row)?,
            ca: row.get("ca")?,
            asked: machine.zip(row.time_optional("asked_at")?),
            refused: row.get("refused")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    pub(crate) async fn candidates(&self) -> Result<Vec<CandidateRow>, StoreError> {
        let rows = query("SELECT * FROM candidates ORDER BY id").fetch_all(&self.reader).await?;
        rows.iter().map(|row| CandidateRow::read(row, &self.seal)).collect()
    }
}

impl Tx {
    pub(crate) async fn put_candidate(&mut self, row: &CandidateRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO candidates (id, names, chain_pem, key_pem, not_before, not_after, \
             source, ca, machine, asked_at, refused, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (id) DO UPDATE SET \
             names = excluded.names, chain_pem = excluded.chain_pem, key_pem = excluded.key_pem, \
             not_before = excluded.not_before, not_after = excluded.not_after, \
             source = excluded.source, ca = excluded.ca, machine = excluded.machine, \
             asked_at = excluded.asked_at, refused = excluded.refused, \
             created_at = excluded.created_at",
        )
        .bind(&row.id)
        .bind(names_json(&row.names))
        .bind(&row.chain_pem)
        .bind(self.seal.seal(&purpose(&row.id), &row.key_pem))
        .bind(row.not_before.unix_ms())
        .bind(row.not_after.unix_ms())
        .bind(row.source.label())
        .bind(row.ca.as_deref())
        .bind(row.asked.as_ref().map(|(machine, _)| machine.as_str()))
        .bind(row.asked.as_ref().map(|(_, at)| at.unix_ms()))
        .bind(row.refused.as_deref())
        .bind(row.created_at.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Whether there was one.
    pub(crate) async fn delete_candidate(&mut self, id: &str) -> Result<bool, StoreError> {
        let deleted = query("DELETE FROM candidates WHERE id = $1").bind(id).execute(&mut self.on);
        Ok(deleted.await? > 0)
    }

    /// Whether this very candidate is still there.
    pub(crate) async fn is_candidate(
        &mut self,
        id: &str,
        created_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let found = query("SELECT id FROM candidates WHERE id = $1 AND created_at = $2")
            .bind(id)
            .bind(created_at.unix_ms())
            .fetch_optional(&mut self.on)
            .await?;
        Ok(found.is_some())
    }
}
