//! Which certificates do edges serve with?

use nigh_proto::{Timestamp, zone::DnsName};

use crate::seal::Seal;

use super::{
    Store, StoreError, Tx,
    sql::{Row, query},
};

/// A certificate and its key.
#[derive(Clone, PartialEq)]
pub(crate) struct CertificateRow {
    /// `site:<name>` or `previews`.
    pub id: String,
    pub names: Vec<DnsName>,
    pub chain_pem: String,
    pub key_pem: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for CertificateRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateRow")
            .field("id", &self.id)
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What the seal of a certificate's key is for.
fn purpose(id: &str) -> String {
    format!("certificate {id}")
}

impl CertificateRow {
    pub(super) fn read(row: &Row, seal: &Seal) -> Result<Self, StoreError> {
        let id: String = row.get("id")?;
        let key: String = row.get("key_pem")?;
        Ok(Self {
            key_pem: seal.reveal(&purpose(&id), &key)?,
            id,
            names: row.json("names")?,
            chain_pem: row.get("chain_pem")?,
            not_before: row.time("not_before")?,
            not_after: row.time("not_after")?,
        })
    }
}

impl Store {
    pub(crate) async fn certificates(&self) -> Result<Vec<CertificateRow>, StoreError> {
        let rows = query("SELECT * FROM certificates ORDER BY id").fetch_all(&self.reader).await?;
        rows.iter().map(|row| CertificateRow::read(row, &self.seal)).collect()
    }
}

impl Tx {
    pub(crate) async fn put_certificate(&mut self, row: &CertificateRow) -> Result<(), StoreError> {
        let names = serde_json::to_string(&row.names).expect("names always have a JSON form");
        query(
            "INSERT INTO certificates (id, names, chain_pem, key_pem, not_before, not_after) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET \
             names = excluded.names, chain_pem = excluded.chain_pem, key_pem = excluded.key_pem, \
             not_before = excluded.not_before, not_after = excluded.not_after",
        )
        .bind(&row.id)
        .bind(names)
        .bind(&row.chain_pem)
        .bind(self.seal.seal(&purpose(&row.id), &row.key_pem))
        .bind(row.not_before.unix_ms())
        .bind(row.not_after.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    pub(crate) async fn delete_certificate(&mut self, id: &str) -> Result<(), StoreError> {
        query("DELETE FROM certificates WHERE id = $1").bind(id).execute(&mut self.on).await?;
        Ok(())
    }
}
