//! Making and deleting sites.

use nigh_proto::{
    Host, SiteName,
    api::{EventKind, NewSite, SiteView},
};
use serde_json::json;

use super::{App, AppError, Expected};
use crate::{
    config::CertificateMode,
    store::{Deed, HostRow, StoreError, Tx},
};

/// How many hosts a site may have: all of them are in one certificate.
pub(super) const HOSTS_MAX: usize = 100;
/// How many sites there may be: machines hold all of them in one document.
const SITES_MAX: u64 = 10_000;

impl App {
    pub(crate) async fn create_site(&self, new: NewSite) -> Result<SiteView, AppError> {
        let name = new.name;
        let total = self.store().tally().await?.sites_total;
        if total >= SITES_MAX {
            return Err(AppError::TooMany { what: "sites", field: None, total, max: SITES_MAX });
        }
        let mut hosts = new.hosts;
        hosts.sort_unstable();
        hosts.dedup();
        let default_host = self.default_host(&name);
        hosts.retain(|host| *host != default_host);
        if hosts.len() >= HOSTS_MAX {
            return Err(AppError::HostsFull { site: name, max: HOSTS_MAX });
        }
        let now = self.now();
        let hosts_total = hosts.len() + 1;
        let mut tx = self.store().begin().await?;
        tx.insert_site(&name, now).await.map_err(|error| match error {
            StoreError::Taken(_) => AppError::SiteTaken(name.clone()),
            error => error.into(),
        })?;
        self.record(&mut tx, EventKind::SiteCreated, Some(&name), name.as_str(), json!({})).await?;
        self.add_host(&mut tx, &name, default_host, true).await?;
        for host in hosts {
            self.add_host(&mut tx, &name, host, false).await?;
        }
        self.certify(&mut tx, &name).await?;
        tx.raise_revision().await?;
        let deed = Deed::new("site.create", &name).site(&name).detail("hosts_total", hosts_total);
        tx.audit(now, deed).await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(site.name = %name, "site {name} was created");
        self.site_view(&name).await
    }

    pub(crate) async fn delete_site(
        &self,
        name: &SiteName,
        expected: &Expected,
    ) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        let Some(site) = tx.site(name).await? else {
            return Err(AppError::SiteUnknown(name.clone()));
        };
        expected.allow(&site.edits())?;
        tx.delete_site(name).await?;
        self.forget_certificates(&mut tx, name).await?;
        self.record(&mut tx, EventKind::SiteDeleted, Some(name), name.as_str(), json!({})).await?;
        tx.raise_revision().await?;
        tx.audit(self.now(), Deed::new("site.delete", name).site(name)).await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(site.name = %name, "site {name} was deleted");
        Ok(())
    }

    /// Whether a host is the default one of another site, be there one or not.
    pub(crate) fn is_of_another_site(&self, host: &Host, site: &SiteName) -> bool {
        let domain = self.effective().config.sites.domain.clone();
        let label = host.as_str().strip_suffix(domain.as_str());
        let label = label.and_then(|label| label.strip_suffix('.'));
        let other = label.and_then(|label| label.parse::<SiteName>().ok());
        other.is_some_and(|other| other != *site)
    }

    /// The host that every site has.
    pub(crate) fn default_host(&self, site: &SiteName) -> Host {
        let domain = self.effective().config.sites.domain.clone();
        // A domain so long that a site's label does not fit before it is refused by its own use.
        format!("{site}.{domain}").parse().unwrap_or(domain)
    }

    pub(super) async fn add_host(
        &self,
        tx: &mut Tx,
        site: &SiteName,
        host: Host,
        is_default: bool,
    ) -> Result<(), AppError> {
        if host.as_str().split('.').any(|label| label.contains("--") && !label.starts_with("xn--"))
        {
            return Err(AppError::HostReserved(host));
        }
        // Clients and machines believe the CA that certificates of sites come from.
        if self.effective().config.certificate_names().iter().any(|own| own == host.as_str()) {
            return Err(AppError::HostOwn(host));
        }
        let row = HostRow { host, site: site.clone(), is_default };
        tx.insert_host(&row, self.now()).await.map_err(|error| match error {
            StoreError::Taken(_) => AppError::HostTaken(row.host),
            error => error.into(),
        })
    }

    /// Gives every site that has none a certificate of the own CA: the configuration may have said
    /// something else when the site was made. Whether there was anything to do.
    pub(super) async fn certify_sites(&self, tx: &mut Tx) -> Result<bool, AppError> {
        let world = self.store().world().await?;
        let mut has_changed = false;
        for site in &world.sites {
            let id = certificate_id(&site.name);
            if !world.certificates.iter().any(|row| row.id == id) {
                self.certify(tx, &site.name).await?;
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    /// Brings certificates in line with the hosts that the site has in this transaction, as far as
    /// that is done at once: public CAs are asked by `reconcile::acme`.
    pub(crate) async fn certify(&self, tx: &mut Tx, site: &SiteName) -> Result<(), AppError> {
        let hosts = tx.hosts(site).await?;
        self.fit_import(tx, site, &hosts).await?;
        let is_own = self.effective().config.certificates.mode == CertificateMode::Internal;
        let names: Vec<String> = hosts.iter().map(|row| row.host.to_string()).collect();
        if is_own && !names.is_empty() {
            let certificate = self.issue(&certificate_id(site), &names)?;
            tx.put_certificate(&certificate).await?;
            let data = json!({ "names": names, "not_after": certificate.not_after });
            self.record(tx, EventKind::CertificateIssued, Some(site), &certificate.id, data)
                .await?;
        }
        Ok(())
    }
}

/// What the database calls a site's certificate.
pub(crate) fn certificate_id(site: &SiteName) -> String {
    format!("site:{site}")
}
