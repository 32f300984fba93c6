//! Which certificates do edges serve with?

use nigh_proto::{Timestamp, zone::DnsName};

use crate::seal::Seal;

use super::{
    Store, StoreError, Tx,
    sql::{Row, query},
};

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Control's own CA.
    Internal,
    /// A CA that speaks ACME.
    Acme,
    /// An operator brought it.
    Import,
}

impl Source {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Source::Internal => "internal",
            Source::Acme => "acme",
            Source::Import => "import",
        }
    }
}

/// A certificate and its key.
#[derive(Clone, PartialEq)]
pub(crate) struct CertificateRow {
    /// `site:<name>`, `previews`, `wildcard:<domain>`, `host:<host>` or `import:<site>`.
    pub id: String,
    pub names: Vec<DnsName>,
    pub chain_pem: String,
    pub key_pem: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub source: Source,
    /// The directory of the CA that it came from, or [`LOST_CONTROL`].
    pub ca: Option<String>,
    /// When its CA, or an operator, would have it renewed.
    pub renew_at: Option<Timestamp>,
    /// When its CA is asked next about that.
    pub ask_at: Option<Timestamp>,
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

/// Where a certificate comes from that another control made with its own CA.
pub(crate) const LOST_CONTROL: &str = "a control that was lost";

/// What the seal of a certificate's key is for.
fn purpose(id: &str) -> String {
    format!("certificate {id}")
}

impl CertificateRow {
    /// Whether it was taken over, and its CA is gone.
    pub(crate) fn is_of_lost_control(&self) -> bool {
        self.ca.as_deref() == Some(LOST_CONTROL)
    }

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
            source: source_of(row)?,
            ca: row.get("ca")?,
            renew_at: row.time_optional("renew_at")?,
            ask_at: row.time_optional("ask_at")?,
        })
    }
}

/// The source in column `source`.
pub(super) fn source_of(row: &Row) -> Result<Source, StoreError> {
    let text: String = row.get("source")?;
    [Source::Internal, Source::Acme, Source::Import]
        .into_iter()
        .find(|source| source.label() == text)
        .ok_or(StoreError::Damaged { column: "source", text })
}

/// Names as the database keeps them.
pub(super) fn names_json(names: &[DnsName]) -> String {
    serde_json::to_string(names).expect("names always have a JSON form")
}

impl Store {
    pub(crate) async fn certificates(&self) -> Result<Vec<CertificateRow>, StoreError> {
        let rows = query("SELECT * FROM certificates ORDER BY id").fetch_all(&self.reader).await?;
        rows.iter().map(|row| CertificateRow::read(row, &self.seal)).collect()
    }
}

impl Tx {
    pub(crate) async fn certificates(&mut self) -> Result<Vec<CertificateRow>, StoreError> {
        let rows = query("SELECT * FROM certificates ORDER BY id").fetch_all(&mut self.on).await?;
        rows.iter().map(|row| CertificateRow::read(row, &self.seal)).collect()
    }

    pub(crate) async fn put_certificate(&mut self, row: &CertificateRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO certificates \
             (id, names, chain_pem, key_pem, not_before, not_after, source, ca, renew_at, ask_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET \
             names = excluded.names, chain_pem = excluded.chain_pem, key_pem = excluded.key_pem, \
             not_before = excluded.not_before, not_after = excluded.not_after, \
             source = excluded.source, ca = excluded.ca, renew_at = excluded.renew_at, \
             ask_at = excluded.ask_at",
        )
        .bind(&row.id)
        .bind(names_json(&row.names))
        .bind(&row.chain_pem)
        .bind(self.seal.seal(&purpose(&row.id), &row.key_pem))
        .bind(row.not_before.unix_ms())
        .bind(row.not_after.unix_ms())
        .bind(row.source.label())
        .bind(row.ca.as_deref())
        .bind(row.renew_at.map(Timestamp::unix_ms))
        .bind(row.ask_at.map(Timestamp::unix_ms))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Notes when a certificate is to be renewed, and when its CA is asked next about that.
    pub(crate) async fn set_renewal(
        &mut self,
        id: &str,
        renew_at: Option<Timestamp>,
        ask_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        query("UPDATE certificates SET renew_at = $2, ask_at = $3 WHERE id = $1")
            .bind(id)
            .bind(renew_at.map(Timestamp::unix_ms))
            .bind(ask_at.map(Timestamp::unix_ms))
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Whether there was one.
    pub(crate) async fn delete_certificate(&mut self, id: &str) -> Result<bool, StoreError> {
        let deleted =
            query("DELETE FROM certificates WHERE id = $1").bind(id).execute(&mut self.on);
        Ok(deleted.await? > 0)
    }

    /// Deletes all that nobody brought, and all that were to come.
    pub(crate) async fn delete_made_certificates(&mut self) -> Result<(), StoreError> {
        query("DELETE FROM certificates WHERE source <> 'import'").execute(&mut self.on).await?;
        query("DELETE FROM candidates WHERE source <> 'import'").execute(&mut self.on).await?;
        query("DELETE FROM acme_challenges").execute(&mut self.on).await?;
        Ok(())
    }

    pub(crate) async fn certificate(
        &mut self,
        id: &str,
    ) -> Result<Option<CertificateRow>, StoreError> {
        let row = query("SELECT * FROM certificates WHERE id = $1").bind(id);
        let row = row.fetch_optional(&mut self.on).await?;
        row.map(|row| CertificateRow::read(&row, &self.seal)).transpose()
    }
}
