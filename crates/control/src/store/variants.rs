//! What did encoding a content give?

use futures_util::TryStreamExt as _;
use nigh_proto::{Digest, variants::ContentCoding};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// What one coding of one content gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VariantRow {
    pub content: Digest,
    pub coding: ContentCoding,
    /// The quality that was tried; a higher one may be tried later.
    pub effort: u32,
    /// `None`: it was not worth it.
    pub digest: Option<Digest>,
    pub size_bytes: u64,
}

impl VariantRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            content: row.digest("content")?,
            coding: row.parse("coding")?,
            effort: u32::try_from(row.number("effort")?).unwrap_or(u32::MAX),
            digest: row.digest_optional("digest")?,
            size_bytes: row.number("size_bytes")?,
        })
    }
}

impl Store {
    /// Everything that was made of `content`.
    pub(crate) async fn variants_of(
        &self,
        content: &Digest,
    ) -> Result<Vec<VariantRow>, StoreError> {
        let rows = query("SELECT * FROM variants WHERE content = $1")
            .bind(&content.as_bytes()[..])
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(VariantRow::read).collect()
    }

    /// All variants, by content. Only for collection: there may be hundreds of thousands.
    pub(crate) async fn all_variants(&self) -> Result<Vec<VariantRow>, StoreError> {
        let mut rows = query("SELECT * FROM variants").fetch(&self.reader);
        let mut variants = Vec::new();
        // One by one: rows as the driver keeps them are many times as large.
        while let Some(row) = rows.try_next().await? {
            variants.push(VariantRow::read(&row)?);
        }
        Ok(variants)
    }
}

impl Tx {
    pub(crate) async fn put_variant(&mut self, row: &VariantRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO variants (content, coding, effort, digest, size_bytes) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (content, coding) DO UPDATE SET \
             effort = excluded.effort, digest = excluded.digest, \
             size_bytes = excluded.size_bytes",
        )
        .bind(&row.content.as_bytes()[..])
        .bind(row.coding.token())
        .bind(i64::from(row.effort))
        .bind(row.digest.map(|digest| digest.as_bytes().to_vec()))
        .bind(signed(row.size_bytes))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Forgets what was made of a content that no release has any more.
    pub(crate) async fn forget_variants(&mut self, content: &Digest) -> Result<(), StoreError> {
        query("DELETE FROM variants WHERE content = $1")
            .bind(&content.as_bytes()[..])
            .execute(&mut self.on)
            .await?;
        Ok(())
    }
}
