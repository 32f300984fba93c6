//! Which releases are there, and how far have they come?

use nigh_proto::{
    Digest, Host, ReleaseId, SiteName, Timestamp,
    api::{ReleaseState, SourceView},
};
use serde::{Deserialize, Deserializer};

use super::{
    Store, StoreError, Tx,
    documents::{documents, hex, object, time, time_optional, truth},
    row::signed,
    sql::query,
};

/// A release.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct ReleaseRow {
    pub id: ReleaseId,
    pub site: SiteName,
    pub state: ReleaseState,
    pub manifest: Digest,
    pub rules: Digest,
    pub variants: Option<Digest>,
    pub files_total: u64,
    pub bytes_total: u64,
    pub message: Option<String>,
    #[serde(deserialize_with = "source")]
    pub source: Option<SourceView>,
    pub pushed_by: Option<String>,
    #[serde(deserialize_with = "time")]
    pub created_at: Timestamp,
    #[serde(deserialize_with = "time_optional")]
    pub finalized_at: Option<Timestamp>,
    /// When edges were last told to stage it.
    #[serde(deserialize_with = "time_optional")]
    pub staging_at: Option<Timestamp>,
    /// Whether it goes live as soon as edges have staged it.
    #[serde(deserialize_with = "truth")]
    pub goes_live: bool,
    #[serde(deserialize_with = "time_optional")]
    pub activated_at: Option<Timestamp>,
    /// The revision that made it live.
    pub live_revision: Option<u64>,
    /// Until when its immutable files stay reachable after it was superseded.
    #[serde(deserialize_with = "time_optional")]
    pub grace_until: Option<Timestamp>,
    /// The host of its own, for a preview.
    pub preview_host: Option<Host>,
    #[serde(deserialize_with = "time_optional")]
    pub preview_expires_at: Option<Timestamp>,
    pub failure: Option<String>,
}

/// Which releases of a site are listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReleaseFilter {
    pub state: Option<ReleaseState>,
    /// Only older ones than this id.
    pub before: Option<String>,
}

/// What a [`ReleaseRow`] is read from.
macro_rules! release {
    ($database:ident) => {
        concat!(
            object!($database),
            "('id', id, 'site', site, 'state', state, 'manifest', ",
            hex!($database, "manifest"),
            ", 'rules', ",
            hex!($database, "rules"),
            ", 'variants', ",
            hex!($database, "variants"),
            ", 'files_total', files_total, 'bytes_total', bytes_total, 'message', message, \
             'source', source, 'pushed_by', pushed_by, 'created_at', created_at, \
             'finalized_at', finalized_at, 'staging_at', staging_at, 'goes_live', goes_live, \
             'activated_at', activated_at, 'live_revision', live_revision, \
             'grace_until', grace_until, 'preview_host', preview_host, \
             'preview_expires_at', preview_expires_at, 'failure', failure)"
        )
    };
}

/// The releases that a `SELECT * FROM releases` finds.
macro_rules! releases {
    ($from:literal $(,)?) => {
        documents!(release, $from)
    };
}

pub(super) use {release, releases};

/// A text in a table that is JSON itself; one of another version counts as none.
fn source<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SourceView>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

impl ReleaseRow {
    /// Whether its blobs must stay: it is served, or may be again.
    pub(crate) const fn needs_blobs(&self) -> bool {
        match self.state {
            ReleaseState::Uploading
            | ReleaseState::Staging
            | ReleaseState::Staged
            | ReleaseState::Active
            | ReleaseState::Preview
            | ReleaseState::Superseded => true,
            ReleaseState::Expired | ReleaseState::Failed => false,
        }
    }
}

fn unix_ms(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::unix_ms)
}

impl Store {
    /// The releases of `site` whose id ends in `suffix`: at most two, which is enough to see that
    /// it is ambiguous.
    pub(crate) async fn releases_by_suffix(
        &self,
        site: &SiteName,
        suffix: &str,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        releases!("SELECT * FROM releases WHERE site = $1 AND id LIKE $2 LIMIT 2")
            .bind(site.as_str())
            .bind(format!("%{suffix}"))
            .documents(&self.reader)
            .await
    }

    /// At most `limit` releases of a site, newest first.
    pub(crate) async fn releases(
        &self,
        site: &SiteName,
        filter: &ReleaseFilter,
        limit: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        releases!(
            "SELECT * FROM releases WHERE site = $1 AND ($2 IS NULL OR state = $2) \
             AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4"
        )
        .bind(site.as_str())
        .bind(filter.state.map(ReleaseState::label))
        .bind(filter.before.as_deref())
        .bind(i64::from(limit))
        .documents(&self.reader)
        .await
    }

    /// One release of any site.
    pub(crate) async fn release(&self, id: &ReleaseId) -> Result<Option<ReleaseRow>, StoreError> {
        let found = releases!("SELECT * FROM releases WHERE id = $1")
            .bind(id.as_str())
            .documents(&self.reader)
            .await?;
        Ok(found.into_iter().next())
    }

    /// At most `limit` releases of all sites before the id `before`, newest first.
    pub(crate) async fn newest_releases(
        &self,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        releases!("SELECT * FROM releases WHERE ($1 IS NULL OR id < $1) ORDER BY id DESC LIMIT $2")
            .bind(before)
            .bind(i64::from(limit))
            .documents(&self.reader)
            .await
    }

    /// Every release of every site, oldest first: what expiry and collection look at.
    pub(crate) async fn all_releases(&self) -> Result<Vec<ReleaseRow>, StoreError> {
        releases!("SELECT * FROM releases ORDER BY id").documents(&self.reader).await
    }

    /// How many releases a site has.
    pub(crate) async fn releases_total(&self, site: &SiteName) -> Result<u64, StoreError> {
        let total: i64 = query("SELECT count(*) FROM releases WHERE site = $1")
            .bind(site.as_str())
            .scalar(&self.reader)
            .await?;
        Ok(total.unsigned_abs())
    }
}

impl Tx {
    /// The release as this transaction sees it.
    pub(crate) async fn release(
        &mut self,
        id: &ReleaseId,
    ) -> Result<Option<ReleaseRow>, StoreError> {
        let found = releases!("SELECT * FROM releases WHERE id = $1")
            .bind(id.as_str())
            .documents(&mut self.on)
            .await?;
        Ok(found.into_iter().next())
    }

    /// The releases of a site in `state`, newest first.
    pub(crate) async fn releases_in(
        &mut self,
        site: &SiteName,
        state: ReleaseState,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        releases!("SELECT * FROM releases WHERE site = $1 AND state = $2 ORDER BY id DESC")
            .bind(site.as_str())
            .bind(state.label())
            .documents(&mut self.on)
            .await
    }

    pub(crate) async fn insert_release(&mut self, row: &ReleaseRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO releases (id, site, state, manifest, rules, files_total, bytes_total, \
             message, source, pushed_by, created_at, preview_host, preview_expires_at, variants) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(row.id.as_str())
        .bind(row.site.as_str())
        .bind(row.state.label())
        .bind(&row.manifest.as_bytes()[..])
        .bind(&row.rules.as_bytes()[..])
        .bind(signed(row.files_total))
        .bind(signed(row.bytes_total))
        .bind(row.message.as_deref())
        .bind(row.source.as_ref().and_then(|source| serde_json::to_string(source).ok()))
        .bind(row.pushed_by.as_deref())
        .bind(row.created_at.unix_ms())
        .bind(row.preview_host.as_ref().map(Host::as_str))
        .bind(unix_ms(row.preview_expires_at))
        .bind(row.variants.map(|digest| digest.as_bytes().to_vec()))
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Writes everything of `row` that changes in a release's life, except its variants.
    pub(crate) async fn update_release(&mut self, row: &ReleaseRow) -> Result<(), StoreError> {
        query(
            "UPDATE releases SET state = $2, finalized_at = $3, staging_at = $4, goes_live = $5, \
             activated_at = $6, live_revision = $7, grace_until = $8, preview_host = $9, \
             preview_expires_at = $10, failure = $11 WHERE id = $1",
        )
        .bind(row.id.as_str())
        .bind(row.state.label())
        .bind(unix_ms(row.finalized_at))
        .bind(unix_ms(row.staging_at))
        .bind(row.goes_live)
        .bind(unix_ms(row.activated_at))
        .bind(row.live_revision.map(signed))
        .bind(unix_ms(row.grace_until))
        .bind(row.preview_host.as_ref().map(Host::as_str))
        .bind(unix_ms(row.preview_expires_at))
        .bind(row.failure.as_deref())
        .execute(&mut self.on)
        .await?;
        Ok(())
    }

    /// Attaches an index of variants; whether the release is still there.
    pub(crate) async fn set_variants(
        &mut self,
        id: &ReleaseId,
        variants: Digest,
    ) -> Result<bool, StoreError> {
        let done = query("UPDATE releases SET variants = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(&variants.as_bytes()[..])
            .execute(&mut self.on)
            .await?;
        Ok(done > 0)
    }

    pub(crate) async fn set_totals(
        &mut self,
        id: &ReleaseId,
        files_total: u64,
        bytes_total: u64,
    ) -> Result<(), StoreError> {
        query("UPDATE releases SET files_total = $2, bytes_total = $3 WHERE id = $1")
            .bind(id.as_str())
            .bind(signed(files_total))
            .bind(signed(bytes_total))
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    pub(crate) async fn delete_release(&mut self, id: &ReleaseId) -> Result<(), StoreError> {
        query("DELETE FROM releases WHERE id = $1").bind(id.as_str()).execute(&mut self.on).await?;
        Ok(())
    }
}
