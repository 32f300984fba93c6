//! Where are control's CAs kept?

use nigh_proto::{Timestamp, api::AuthorityStage};

use crate::seal::Seal;

use super::{
    StoreError, Tx,
    sql::{Row, query},
};

/// What the seal of a CA's key is for.
const PURPOSE: &str = "authority";

/// One of control's CAs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AuthorityRow {
    pub number: i64,
    pub stage: AuthorityStage,
    /// When it came to that stage.
    pub since: Timestamp,
    pub certificate_pem: String,
    /// The same CA as the one before it signed it; empty for the first.
    pub cross_pem: String,
    /// Empty once it is retired.
    pub key_pem: String,
}

impl std::fmt::Debug for AuthorityRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorityRow")
            .field("number", &self.number)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

const STAGES: [AuthorityStage; 3] =
    [AuthorityStage::Next, AuthorityStage::Current, AuthorityStage::Retired];

impl AuthorityRow {
    pub(super) fn read(row: &Row, seal: &Seal) -> Result<Self, StoreError> {
        let text: String = row.get("stage")?;
        let stage = STAGES.into_iter().find(|stage| stage.label() == text);
        let sealed: String = row.get("key_pem")?;
        Ok(Self {
            number: row.get("number")?,
            stage: stage.ok_or(StoreError::Damaged { column: "stage", text })?,
            since: row.time("since")?,
            certificate_pem: row.get("certificate_pem")?,
            cross_pem: row.get("cross_pem")?,
            key_pem: match sealed.as_str() {
                "" => String::new(),
                sealed => seal.reveal(PURPOSE, sealed)?,
            },
        })
    }
}

impl Tx {
    /// Every CA that is trusted, the newest first.
    pub(crate) async fn authorities(&mut self) -> Result<Vec<AuthorityRow>, StoreError> {
        let rows = query("SELECT * FROM authorities ORDER BY number DESC");
        let rows = rows.fetch_all(&mut self.on).await?;
        rows.iter().map(|row| AuthorityRow::read(row, &self.seal)).collect()
    }

    /// Adds a CA, or brings it to another stage.
    pub(crate) async fn put_authority(&mut self, row: &AuthorityRow) -> Result<(), StoreError> {
        let key = match row.key_pem.as_str() {
            "" => String::new(),
            key => self.seal.seal(PURPOSE, key),
        };
        query(
            "INSERT INTO authorities (number, stage, since, certificate_pem, cross_pem, key_pem) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (number) DO UPDATE SET \
             stage = excluded.stage, since = excluded.since, key_pem = excluded.key_pem",
        )
        .bind(row.number)
        .bind(row.stage.label())
        .bind(row.since.unix_ms())
        .bind(&row.certificate_pem)
        .bind(&row.cross_pem)
        .bind(key)
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    pub(crate) async fn delete_authority(&mut self, number: i64) -> Result<(), StoreError> {
        query("DELETE FROM authorities WHERE number = $1")
            .bind(number)
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Whether a machine's certificate that is valid beyond `now` is signed by this CA.
    pub(crate) async fn is_authority_needed(
        &mut self,
        number: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let total: i64 =
            query("SELECT count(*) FROM machines WHERE signer = $1 AND certificate_not_after > $2")
                .bind(number)
                .bind(now.unix_ms())
                .scalar(&mut self.on)
                .await?;
        Ok(total > 0)
    }
}
