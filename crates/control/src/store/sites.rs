//! Which sites are there, and which hosts do they answer to?

use nigh_proto::{Host, ReleaseId, SiteName, Timestamp, api::SiteQuotas};
use serde::{Deserialize, Deserializer, de};

use super::{
    Store, StoreError, Tx,
    documents::{documents, object, time},
    row::signed,
    sql::{Row, query},
};

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SiteRow {
    pub name: SiteName,
    #[serde(deserialize_with = "time")]
    pub created_at: Timestamp,
    pub active: Option<ReleaseId>,
    /// How often its settings or hosts were changed.
    pub edits: u64,
    pub quotas: SiteQuotas,
}

/// A site with what people are shown beside it, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ListedSite {
    pub row: SiteRow,
    /// The default one first.
    #[serde(deserialize_with = "hosts")]
    pub hosts: Vec<Host>,
    pub releases_total: u64,
}

/// What a [`SiteRow`] is read from.
macro_rules! site {
    ($database:ident) => {
        concat!(
            object!($database),
            "('name', name, 'created_at', created_at, 'active', active, 'edits', edits, 'quotas', ",
            object!($database),
            "('files_max', files_max, 'bytes_max', bytes_max, 'releases_max', releases_max))"
        )
    };
}

/// What a [`ListedSite`] is read from. No host has a comma.
macro_rules! listed_site {
    ($database:ident) => {
        concat!(
            object!($database),
            "('row', ",
            site!($database),
            ", 'hosts', (SELECT string_agg(host, ',' ORDER BY is_default DESC, host) FROM hosts \
             WHERE hosts.site = found.name), \
             'releases_total', (SELECT count(*) FROM releases WHERE releases.site = found.name))"
        )
    };
}

pub(super) use site;

fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Host>, D::Error> {
    let hosts = Option::<String>::deserialize(from)?;
    let hosts = hosts.iter().flat_map(|hosts| hosts.split(','));
    hosts.map(|host| host.parse().map_err(de::Error::custom)).collect()
}

/// A host of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRow {
    pub host: Host,
    pub site: SiteName,
    pub is_default: bool,
}

impl HostRow {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            host: row.parse("host")?,
            site: row.parse("site")?,
            is_default: row.get("is_default")?,
        })
    }
}

impl Store {
    pub(crate) async fn site(&self, name: &SiteName) -> Result<Option<SiteRow>, StoreError> {
        let found = documents!(site, "SELECT * FROM sites WHERE name = $1")
            .bind(name.as_str())
            .documents(&self.reader)
            .await?;
        Ok(found.into_iter().next())
    }

    /// A site as it is shown.
    pub(crate) async fn listed_site(
        &self,
        name: &SiteName,
    ) -> Result<Option<ListedSite>, StoreError> {
        let found = documents!(listed_site, "SELECT * FROM sites WHERE name = $1")
            .bind(name.as_str())
            .documents(&self.reader)
            .await?;
        Ok(found.into_iter().next())
    }

    /// At most `limit` sites after the name `after`, by name: of those that begin with `prefix`,
    /// and of `among` only, unless that is empty.
    pub(crate) async fn sites(
        &self,
        after: &str,
        prefix: &str,
        among: &[SiteName],
        limit: u32,
    ) -> Result<Vec<ListedSite>, StoreError> {
        let names: Vec<&str> = among.iter().map(SiteName::as_str).collect();
        // A site's name has no comma, so that a list of names is one text.
        let among = if names.is_empty() { String::new() } else { format!(",{},", names.join(",")) };
        documents!(
            listed_site,
            "SELECT * FROM sites WHERE name > $1 AND substr(name, 1, length($2)) = $2 \
             AND ($3 = '' OR $3 LIKE '%,' || name || ',%') ORDER BY name LIMIT $4"
        )
        .bind(after)
        .bind(prefix)
        .bind(among)
        .bind(i64::from(limit))
        .documents(&self.reader)
        .await
    }

    /// Sites with quotas of their own, or all, and how many releases they have.
    pub(crate) async fn sites_with_totals(
        &self,
        is_for_all: bool,
    ) -> Result<Vec<ListedSite>, StoreError> {
        documents!(
            listed_site,
            "SELECT * FROM sites WHERE $1 OR files_max IS NOT NULL \
             OR bytes_max IS NOT NULL OR releases_max IS NOT NULL ORDER BY name",
        )
        .bind(is_for_all)
        .documents(&self.reader)
        .await
    }

    /// The hosts of a site, the default one first.
    pub(crate) async fn hosts(&self, site: &SiteName) -> Result<Vec<HostRow>, StoreError> {
        let rows = query(
            "SELECT host, site, is_default FROM hosts WHERE site = $1 \
             ORDER BY is_default DESC, host",
        )
        .bind(site.as_str())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(HostRow::read).collect()
    }
}

impl Tx {
    /// The site as this transaction sees it.
    pub(crate) async fn site(&mut self, name: &SiteName) -> Result<Option<SiteRow>, StoreError> {
        let found = documents!(site, "SELECT * FROM sites WHERE name = $1")
            .bind(name.as_str())
            .documents(&mut self.on)
            .await?;
        Ok(found.into_iter().next())
    }

    pub(crate) async fn insert_site(
        &mut self,
        name: &SiteName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query("INSERT INTO sites (name, created_at) VALUES ($1, $2)")
            .bind(name.as_str())
            .bind(now.unix_ms())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Counts an edit of the site.
    pub(crate) async fn edit_site(&mut self, name: &SiteName) -> Result<(), StoreError> {
        query("UPDATE sites SET edits = edits + 1 WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_quotas(
        &mut self,
        name: &SiteName,
        quotas: &SiteQuotas,
    ) -> Result<(), StoreError> {
        query("UPDATE sites SET files_max = $2, bytes_max = $3, releases_max = $4 WHERE name = $1")
            .bind(name.as_str())
            .bind(quotas.files_max.map(signed))
            .bind(quotas.bytes_max.map(signed))
            .bind(quotas.releases_max.map(signed))
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    pub(crate) async fn releases_total(&mut self, site: &SiteName) -> Result<u64, StoreError> {
        let total: i64 = query("SELECT count(*) FROM releases WHERE site = $1")
            .bind(site.as_str())
            .scalar(&mut self.on)
            .await?;
        Ok(total.unsigned_abs())
    }

    /// Deletes a site with its hosts and releases; whether there was one.
    pub(crate) async fn delete_site(&mut self, name: &SiteName) -> Result<bool, StoreError> {
        let done = query("DELETE FROM sites WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(done > 0)
    }

    pub(crate) async fn insert_host(
        &mut self,
        row: &HostRow,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query("INSERT INTO hosts (host, site, is_default, created_at) VALUES ($1, $2, $3, $4)")
            .bind(row.host.as_str())
            .bind(row.site.as_str())
            .bind(row.is_default)
            .bind(now.unix_ms())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// The hosts of a site as this transaction sees them, the default one first.
    pub(crate) async fn hosts(&mut self, site: &SiteName) -> Result<Vec<HostRow>, StoreError> {
        let rows = query(
            "SELECT host, site, is_default FROM hosts WHERE site = $1 \
             ORDER BY is_default DESC, host",
        )
        .bind(site.as_str())
        .fetch_all(&mut self.on)
        .await?;
        rows.iter().map(HostRow::read).collect()
    }

    pub(crate) async fn delete_host(&mut self, host: &Host) -> Result<(), StoreError> {
        query("DELETE FROM hosts WHERE host = $1")
            .bind(host.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }

    /// Makes `release` the one that the site's hosts serve.
    pub(crate) async fn set_active(
        &mut self,
        site: &SiteName,
        release: &ReleaseId,
    ) -> Result<(), StoreError> {
        query("UPDATE sites SET active = $2 WHERE name = $1")
            .bind(site.as_str())
            .bind(release.as_str())
            .execute(&mut self.on)
            .await?;
        Ok(())
    }
}
