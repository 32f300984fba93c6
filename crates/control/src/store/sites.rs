//! Which sites are there, and which hosts do they answer to?

use nigh_proto::{Host, ReleaseId, SiteName, Timestamp};

use super::{
    Store, StoreError, Tx,
    sql::{Row, query},
};

/// A site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SiteRow {
    pub name: SiteName,
    pub created_at: Timestamp,
    pub active: Option<ReleaseId>,
}

/// A host of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRow {
    pub host: Host,
    pub site: SiteName,
    pub is_default: bool,
}

impl SiteRow {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.parse("name")?,
            created_at: row.time("created_at")?,
            active: row.parse_optional("active")?,
        })
    }
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
        let row = query("SELECT name, created_at, active FROM sites WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| SiteRow::read(&row)).transpose()
    }

    /// At most `limit` sites after the name `after`, by name.
    pub(crate) async fn sites(&self, after: &str, limit: u32) -> Result<Vec<SiteRow>, StoreError> {
        let rows = query(
            "SELECT name, created_at, active FROM sites WHERE name > $1 ORDER BY name LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(SiteRow::read).collect()
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

    /// How many sites and releases there are.
    pub(crate) async fn totals(&self) -> Result<(u64, u64), StoreError> {
        let row = query(
            "SELECT (SELECT count(*) FROM sites) AS sites, \
             (SELECT count(*) FROM releases) AS releases",
        )
        .fetch_one(&self.reader)
        .await?;
        Ok((row.number("sites")?, row.number("releases")?))
    }
}

impl Tx {
    /// The site as this transaction sees it.
    pub(crate) async fn site(&mut self, name: &SiteName) -> Result<Option<SiteRow>, StoreError> {
        let row = query("SELECT name, created_at, active FROM sites WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut self.on)
            .await?;
        row.map(|row| SiteRow::read(&row)).transpose()
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
