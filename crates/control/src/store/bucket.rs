//! Which blobs are in the bucket, and where?

use std::sync::LazyLock;

use futures_util::TryStreamExt as _;
use nigh_proto::{Digest, ReleaseId, Timestamp};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// Blobs that one statement asks for.
const ASKED: usize = 500;
/// Blobs that one statement adds.
const ADDED: usize = 100;

static SELECT: LazyLock<String> = LazyLock::new(|| {
    let places: Vec<String> = (1..=ASKED).map(|number| format!("${number}")).collect();
    let list = places.join(", ");
    format!(
        "SELECT digest, object, start, stored_len, raw_len FROM bucket_blobs WHERE digest IN ({list})"
    )
});

static INSERT_MANY: LazyLock<String> = LazyLock::new(|| insert(ADDED));
static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert(1));

/// A blob that is somewhere already stays there.
fn insert(rows: usize) -> String {
    let row = |number: usize| {
        let first = number * 5 + 1;
        let places: Vec<String> = (first..first + 5).map(|place| format!("${place}")).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!(
        "INSERT INTO bucket_blobs (digest, object, start, stored_len, raw_len) VALUES {} \
         ON CONFLICT (digest) DO NOTHING",
        rows.join(", ")
    )
}

/// Where a blob is in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlaceRow {
    pub digest: Digest,
    pub object: String,
    pub start: u64,
    pub stored_len: u64,
    pub raw_len: u64,
}

/// An object that is whole in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectRow {
    pub key: String,
    pub bytes: u64,
    pub wanted_at: Timestamp,
}

impl PlaceRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            digest: row.digest("digest")?,
            object: row.get("object")?,
            start: row.number("start")?,
            stored_len: row.number("stored_len")?,
            raw_len: row.number("raw_len")?,
        })
    }
}

impl ObjectRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            key: row.get("key")?,
            bytes: row.number("bytes")?,
            wanted_at: row.time("wanted_at")?,
        })
    }
}

impl Store {
    /// The places of those of `digests` that are in the bucket, in no order.
    pub(crate) async fn places(&self, digests: &[Digest]) -> Result<Vec<PlaceRow>, StoreError> {
        let mut places = Vec::with_capacity(digests.len());
        for asked in digests.chunks(ASKED) {
            // One statement for any number, so that it is prepared once.
            let filled = asked.iter().chain(std::iter::repeat(&asked[0])).take(ASKED);
            let statement = filled.fold(query(SELECT.as_str()), |statement, digest| {
                statement.bind(&digest.as_bytes()[..])
            });
            for row in statement.fetch_all(&self.reader).await? {
                places.push(PlaceRow::read(&row)?);
            }
        }
        Ok(places)
    }

    /// What an object holds, by where it lies.
    pub(crate) async fn places_in(&self, object: &str) -> Result<Vec<PlaceRow>, StoreError> {
        let rows = query(
            "SELECT digest, object, start, stored_len, raw_len FROM bucket_blobs \
             WHERE object = $1 ORDER BY start",
        );
        let rows = rows.bind(object).fetch_all(&self.reader).await?;
        rows.iter().map(PlaceRow::read).collect()
    }

    /// Every object, by key.
    pub(crate) async fn bucket_objects(&self) -> Result<Vec<ObjectRow>, StoreError> {
        let mut rows = query("SELECT * FROM bucket_objects ORDER BY key").fetch(&self.reader);
        let mut objects = Vec::new();
        while let Some(row) = rows.try_next().await? {
            objects.push(ObjectRow::read(&row)?);
        }
        Ok(objects)
    }

    /// Every blob in the bucket, in no order: there may be millions.
    pub(crate) async fn bucket_digests(&self) -> Result<Vec<Digest>, StoreError> {
        let mut rows = query("SELECT digest FROM bucket_blobs").fetch(&self.reader);
        let mut digests = Vec::new();
        while let Some(row) = rows.try_next().await? {
            digests.push(row.digest("digest")?);
        }
        Ok(digests)
    }

    /// How many blobs the bucket has, and the bytes of its objects.
    pub(crate) async fn bucket_usage(&self) -> Result<(u64, u64), StoreError> {
        let blobs: i64 = query("SELECT COUNT(*) FROM bucket_blobs").scalar(&self.reader).await?;
        let bytes: i64 =
            query("SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM bucket_objects")
                .scalar(&self.reader)
                .await?;
        Ok((blobs.unsigned_abs(), bytes.unsigned_abs()))
    }

    /// The name by which the bucket knows this fleet, if it has used one.
    pub(crate) async fn bucket_fleet(&self) -> Result<Option<String>, StoreError> {
        let row =
            query("SELECT fleet FROM bucket WHERE id = 1").fetch_optional(&self.reader).await?;
        row.map(|row| row.get("fleet")).transpose()
    }
}

impl Tx {
    /// Gives the fleet a name for buckets, unless it has one.
    pub(crate) async fn name_bucket_fleet(&mut self, fleet: &str) -> Result<(), StoreError> {
        query("INSERT INTO bucket (id, fleet) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
            .bind(fleet)
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// An object is whole; if it came in parts, that upload has ended.
    pub(crate) async fn insert_object(&mut self, row: &ObjectRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO bucket_objects (key, bytes, wanted_at) VALUES ($1, $2, $3) \
             ON CONFLICT (key) DO NOTHING",
        )
        .bind(&row.key)
        .bind(signed(row.bytes))
        .bind(row.wanted_at.unix_ms())
        .execute(&mut self.on)
        .await?;
        self.forget_upload(&row.key).await
    }

    /// Says where blobs are; those that are somewhere already stay there.
    pub(crate) async fn insert_places(&mut self, places: &[PlaceRow]) -> Result<(), StoreError> {
        let (chunks, rest) = places.as_chunks::<ADDED>();
        let many = chunks.iter().map(|chunk| (INSERT_MANY.as_str(), &chunk[..]));
        let one = rest.chunks(1).map(|chunk| (INSERT_ONE.as_str(), chunk));
        for (sql, chunk) in many.chain(one) {
            let statement = chunk.iter().fold(query(sql), |statement, place| {
                statement
                    .bind(&place.digest.as_bytes()[..])
                    .bind(&place.object)
                    .bind(signed(place.start))
                    .bind(signed(place.stored_len))
                    .bind(signed(place.raw_len))
            });
            statement.execute(&mut self.on).await?;
        }
        Ok(())
    }

    /// Moves a blob from `from` to its new place, unless it has left in the meantime.
    pub(crate) async fn move_place(&mut self, from: &str, to: &PlaceRow) -> Result<(), StoreError> {
        query("UPDATE bucket_blobs SET object = $1, start = $2 WHERE digest = $3 AND object = $4")
            .bind(&to.object)
            .bind(signed(to.start))
            .bind(&to.digest.as_bytes()[..])
            .bind(from)
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Keeps an object from being collected for a while.
    pub(crate) async fn want_object(
        &mut self,
        key: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query("UPDATE bucket_objects SET wanted_at = $1 WHERE key = $2")
            .bind(now.unix_ms())
            .bind(key)
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Whether the object is there and nobody has counted on it since `before`.
    pub(crate) async fn is_unwanted(
        &mut self,
        key: &str,
        before: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = query("SELECT key FROM bucket_objects WHERE key = $1 AND wanted_at < $2")
            .bind(key)
            .bind(before.unix_ms())
            .fetch_optional(&mut self.on)
            .await?;
        Ok(row.is_some())
    }

    /// Forgets a blob, if it is in `object`.
    pub(crate) async fn forget_place(
        &mut self,
        object: &str,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let changed = query("DELETE FROM bucket_blobs WHERE digest = $1 AND object = $2")
            .bind(&digest.as_bytes()[..])
            .bind(object)
            .execute(&mut self.on)
            .await?;
        Ok(changed > 0)
    }

    /// Forgets an object and every blob in it.
    pub(crate) async fn forget_object(&mut self, key: &str) -> Result<(), StoreError> {
        query("DELETE FROM bucket_blobs WHERE object = $1").bind(key).execute(&mut self.on).await?;
        query("DELETE FROM bucket_objects WHERE key = $1").bind(key).execute(&mut self.on).await?;
        Ok(())
    }

    /// Forgets everything that is in the bucket: the folder has it all.
    pub(crate) async fn leave_bucket(&mut self) -> Result<(), StoreError> {
        query("DELETE FROM bucket_blobs").execute(&mut self.on).await?;
        query("DELETE FROM bucket_objects").execute(&mut self.on).await?;
        query("DELETE FROM bucket_parts").execute(&mut self.on).await?;
        query("DELETE FROM bucket_uploads").execute(&mut self.on).await?;
        query("DELETE FROM bucket").execute(&mut self.on).await?;
        Ok(())
    }

    /// The ids of all releases, as this transaction sees them.
    pub(crate) async fn release_ids(&mut self) -> Result<Vec<ReleaseId>, StoreError> {
        let rows = query("SELECT id FROM releases").fetch_all(&mut self.on).await?;
        rows.iter().map(|row| row.parse("id")).collect()
    }
}
