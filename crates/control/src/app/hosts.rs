//! Which hosts does a site answer to?

use nigh_proto::{
    Host, SiteName,
    api::{EventKind, HostView},
    zone::DnsName,
};
use serde_json::json;

use super::{App, AppError, sites::HOSTS_MAX};
use crate::store::{Deed, HostRow};

impl App {
    pub(crate) async fn hosts(&self, site: &SiteName) -> Result<Vec<HostView>, AppError> {
        self.require_site(site).await?;
        let hosts = self.store().hosts(site).await?;
        Ok(hosts.into_iter().map(|row| self.host_view(row)).collect())
    }

    pub(crate) async fn create_host(
        &self,
        site: &SiteName,
        host: Host,
    ) -> Result<HostView, AppError> {
        let mut tx = self.store().begin().await?;
        if tx.site(site).await?.is_none() {
            return Err(AppError::SiteUnknown(site.clone()));
        }
        if tx.hosts(site).await?.len() >= HOSTS_MAX {
            return Err(AppError::HostsFull { site: site.clone(), max: HOSTS_MAX });
        }
        self.add_host(&mut tx, site, host.clone(), false).await?;
        self.record(&mut tx, EventKind::HostAdded, Some(site), host.as_str(), json!({})).await?;
        self.certify(&mut tx, site).await?;
        tx.edit_site(site).await?;
        tx.raise_revision().await?;
        tx.audit(self.now(), Deed::new("host.add", &host).site(site)).await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(site.name = %site, %host, "site {site} answers to {host} now");
        Ok(self.host_view(HostRow { host, site: site.clone(), is_default: false }))
    }

    pub(crate) async fn delete_host(&self, site: &SiteName, host: &Host) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        if tx.site(site).await?.is_none() {
            return Err(AppError::SiteUnknown(site.clone()));
        }
        match tx.hosts(site).await?.into_iter().find(|row| row.host == *host) {
            None => return Err(AppError::HostUnknown(host.clone())),
            Some(row) if row.is_default => return Err(AppError::HostDefault(host.clone())),
            Some(_) => tx.delete_host(host).await?,
        }
        self.record(&mut tx, EventKind::HostRemoved, Some(site), host.as_str(), json!({})).await?;
        self.certify(&mut tx, site).await?;
        tx.edit_site(site).await?;
        tx.raise_revision().await?;
        tx.audit(self.now(), Deed::new("host.remove", host).site(site)).await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(site.name = %site, %host, "site {site} answers to {host} no longer");
        Ok(())
    }

    fn host_view(&self, row: HostRow) -> HostView {
        let name = DnsName::from(row.host.clone());
        let is_in_zone =
            self.effective().settings.zones.iter().any(|zone| name.is_within(&zone.name));
        HostView { host: row.host, site: row.site, is_default: row.is_default, is_in_zone }
    }

    pub(crate) async fn require_site(&self, site: &SiteName) -> Result<(), AppError> {
        match self.store().site(site).await? {
            Some(_) => Ok(()),
            None => Err(AppError::SiteUnknown(site.clone())),
        }
    }
}
