//! Which sites are there, and which hosts do they answer to?

use nigh_proto::{Host, ReleaseId, SiteName, Timestamp, api::SiteQuotas};

use super::{
    Store, StoreError, Tx,
    row::signed,
    sql::{Row, query},
};

/// A site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SiteRow {
    pub name: SiteName,
    pub created_at: Timestamp,
    pub active: Option<ReleaseId>,
    /// How often its settings or hosts were changed.
    pub edits: u64,
    pub quotas: SiteQuotas,
}

/// A site with what people are shown beside it, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSite {
    pub row: SiteRow,
    /// The default one first.
    pub hosts: Vec<Host>,
    pub releases_total: u64,
}

/// What a [`ListedSite`] is read from: one statement, since every statement costs SQLite's reader
/// a switch of threads. No host has a comma.
macro_rules! listed {
    ($rest:literal) => {
        concat!(
            "SELECT name, created_at, active, edits, files_max, bytes_max, releases_max, \
             (SELECT string_agg(host, ',' ORDER BY is_default DESC, host) FROM hosts \
             WHERE hosts.site = sites.name) AS hosts, \
             (SELECT count(*) FROM releases WHERE releases.site = sites.name) AS releases_total \
             FROM sites WHERE ",
            $rest
        )
    };
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
            edits: row.number("edits")?,
            quotas: SiteQuotas {
                files_max: row.number_optional("files_max")?,
                bytes_max: row.number_optional("bytes_max")?,
                releases_max: row.number_optional("releases_max")?,
            },
        })
    }
}

impl ListedSite {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let hosts: Option<String> = row.get("hosts")?;
        let damaged = |text: &str| StoreError::Damaged { column: "host", text: text.to_owned() };
        let hosts = hosts.iter().flat_map(|hosts| hosts.split(','));
        Ok(Self {
            row: SiteRow::read(row)?,
            hosts: hosts
                .map(|host| host.parse().map_err(|_| damaged(host)))
                .collect::<Result<_, _>>()?,
            releases_total: row.number("releases_total")?,
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
        let row = query("SELECT * FROM sites WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| SiteRow::read(&row)).transpose()
    }

    /// A site as it is shown.
    pub(crate) async fn listed_site(
        &self,
        name: &SiteName,
    ) -> Result<Option<ListedSite>, StoreError> {
        let row =
            query(listed!("name = $1")).bind(name.as_str()).fetch_optional(&self.reader).await?;
        row.map(|row| ListedSite::read(&row)).transpose()
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
        let rows = query(listed!(
            "name > $1 AND substr(name, 1, length($2)) = $2 \
             AND ($3 = '' OR $3 LIKE '%,' || name || ',%') ORDER BY name LIMIT $4"
        ))
        .bind(after)
        .bind(prefix)
        .bind(among)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(ListedSite::read).collect()
    }

    /// Sites with quotas of their own, or all, and how many releases they have.
    pub(crate) async fn sites_with_totals(
        &self,
        is_for_all: bool,
    ) -> Result<Vec<(SiteRow, u64)>, StoreError> {
        let rows = query(
            "SELECT sites.*, (SELECT count(*) FROM releases WHERE releases.site = sites.name) \
             AS releases_total FROM sites WHERE $1 OR files_max IS NOT NULL \
             OR bytes_max IS NOT NULL OR releases_max IS NOT NULL ORDER BY name",
        )
        .bind(is_for_all)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((SiteRow::read(row)?, row.number("releases_total")?))).collect()
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
        let row = query("SELECT * FROM sites WHERE name = $1")
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
