//! How far have uploads in parts to the bucket come?

use nigh_bucket::Part;
use nigh_proto::{Digest, Timestamp};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// An upload in parts that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadRow {
    /// The name of the object that it is to be.
    pub object: String,
    /// What the server calls it.
    pub upload: String,
    /// The large blob that it is; `None` when nobody goes on with it.
    pub digest: Option<Digest>,
    /// The folder that it is read from.
    pub folder: String,
    pub bytes: u64,
    pub part_bytes: u64,
    pub touched_at: Timestamp,
}

impl UploadRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            object: row.get("object")?,
            upload: row.get("upload")?,
            digest: row.digest_optional("digest")?,
            folder: row.get("folder")?,
            bytes: row.number("bytes")?,
            part_bytes: row.number("part_bytes")?,
            touched_at: row.time("touched_at")?,
        })
    }
}

impl Store {
    /// The upload of a blob that was begun from `folder`.
    pub(crate) async fn bucket_upload(
        &self,
        digest: &Digest,
        folder: &str,
    ) -> Result<Option<UploadRow>, StoreError> {
        let row = query(
            "SELECT * FROM bucket_uploads WHERE digest = $1 AND folder = $2 \
             ORDER BY touched_at DESC, object LIMIT 1",
        );
        let row = row.bind(&digest.as_bytes()[..]).bind(folder);
        let row = row.fetch_optional(&self.reader).await?;
        row.as_ref().map(UploadRow::read).transpose()
    }

    /// Every upload that has not ended.
    pub(crate) async fn bucket_uploads(&self) -> Result<Vec<UploadRow>, StoreError> {
        let rows = query("SELECT * FROM bucket_uploads ORDER BY object");
        let rows = rows.fetch_all(&self.reader).await?;
        rows.iter().map(UploadRow::read).collect()
    }

    /// The parts of an upload that have arrived, in order.
    pub(crate) async fn bucket_parts(&self, object: &str) -> Result<Vec<Part>, StoreError> {
        let rows = query("SELECT number, etag FROM bucket_parts WHERE object = $1 ORDER BY number");
        let rows = rows.bind(object).fetch_all(&self.reader).await?;
        let part = |row: &Row| {
            let number = u32::try_from(row.number("number")?).unwrap_or(u32::MAX);
            Ok(Part { number, etag: row.get("etag")? })
        };
        rows.iter().map(part).collect()
    }

    /// Whether control knows an object of this name, or is putting one.
    pub(crate) async fn knows_object(&self, object: &str) -> Result<bool, StoreError> {
        let row = query(
            "SELECT key FROM bucket_objects WHERE key = $1 \
             UNION ALL SELECT object FROM bucket_uploads WHERE object = $1",
        );
        Ok(row.bind(object).fetch_optional(&self.reader).await?.is_some())
    }
}

impl Tx {
    pub(crate) async fn insert_upload(&mut self, row: &UploadRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO bucket_uploads (object, upload, digest, folder, bytes, part_bytes, \
             touched_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&row.object)
        .bind(&row.upload)
        .bind(row.digest.map(|digest| digest.as_bytes().to_vec()))
        .bind(&row.folder)
        .bind(signed(row.bytes))
        .bind(signed(row.part_bytes))
        .bind(row.touched_at.unix_ms())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Somebody goes on with an upload now; `false` when it has ended or was given up.
    pub(crate) async fn touch_upload(
        &mut self,
        object: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = query("UPDATE bucket_uploads SET touched_at = $1 WHERE object = $2")
            .bind(now.unix_ms())
            .bind(object)
            .execute(&mut self.on)
            .await?;
        Ok(changed > 0)
    }

    /// A part has arrived.
    pub(crate) async fn insert_part(
        &mut self,
        object: &str,
        part: &Part,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO bucket_parts (object, number, etag) VALUES ($1, $2, $3) \
             ON CONFLICT (object, number) DO UPDATE SET etag = excluded.etag",
        )
        .bind(object)
        .bind(i64::from(part.number))
        .bind(part.etag.as_deref())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Nobody goes on with an upload any more.
    pub(crate) async fn give_up_upload(&mut self, object: &str) -> Result<(), StoreError> {
        query("UPDATE bucket_uploads SET digest = NULL WHERE object = $1")
            .bind(object)
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// An upload has ended, either way.
    pub(crate) async fn forget_upload(&mut self, object: &str) -> Result<(), StoreError> {
        for table in ["bucket_parts", "bucket_uploads"] {
            let sql = format!("DELETE FROM {table} WHERE object = $1");
            query(sqlx::AssertSqlSafe(sql)).bind(object).execute(&mut self.on).await?;
        }
        Ok(())
    }
}
