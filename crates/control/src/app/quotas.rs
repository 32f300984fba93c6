//! How much may a site hold?

use nigh_proto::{
    SiteName,
    api::{SiteChange, SiteQuotas, SiteView},
};

use super::{App, AppError, Expected};
use crate::{
    config::QuotasConfig,
    store::{Deed, ListedSite, ReleaseRow, SiteRow, Tally},
};

/// From here on it is worth a warning, in percent.
const WARN_PERCENT: u64 = 90;

impl SiteRow {
    /// What `If-Match` is compared with; new with every edit, and for a site that is made anew.
    pub(crate) fn edits(&self) -> String {
        format!("{:x}.{}", self.created_at.unix_ms(), self.edits)
    }
}

impl App {
    /// What a site may hold: as it was set, else as the configuration says for all.
    pub(crate) fn quotas(&self, site: &SiteRow) -> SiteQuotas {
        let all = self.effective().config.quotas;
        SiteQuotas {
            files_max: site.quotas.files_max.or(all.files_max),
            bytes_max: site.quotas.bytes_max.or(all.bytes_max),
            releases_max: site.quotas.releases_max.or(all.releases_max),
        }
    }

    /// Whether the site may have a release of this size.
    pub(super) fn check_quota(&self, site: &SiteRow, row: &ReleaseRow) -> Result<(), AppError> {
        let quotas = self.quotas(site);
        within(&site.name, "files", row.files_total, quotas.files_max)?;
        within(&site.name, "bytes", row.bytes_total, quotas.bytes_max)
    }

    /// Whether the site may have one more than `releases_total`.
    pub(super) fn check_releases(
        &self,
        site: &SiteRow,
        releases_total: u64,
    ) -> Result<(), AppError> {
        let max = self.quotas(site).releases_max;
        within(&site.name, "releases", releases_total + 1, max)
    }

    /// Changes a site's settings.
    pub(crate) async fn change_site(
        &self,
        name: &SiteName,
        change: SiteChange,
        expected: &Expected,
    ) -> Result<SiteView, AppError> {
        let mut tx = self.store().begin().await?;
        let Some(site) = tx.site(name).await? else {
            return Err(AppError::SiteUnknown(name.clone()));
        };
        let quotas = change.quotas_after(site.quotas);
        for (what, max) in quotas.named() {
            if max == Some(0) {
                return Err(AppError::QuotaInvalid { what });
            }
        }
        expected.allow(&site.edits())?;
        if quotas != site.quotas {
            tx.set_quotas(name, &quotas).await?;
            tx.edit_site(name).await?;
            let mut deed = Deed::new("site.change", name).site(name);
            for ((what, new), (_, old)) in quotas.named().into_iter().zip(site.quotas.named()) {
                if new != old {
                    let text =
                        |max: Option<u64>| max.map_or("none".to_owned(), |max| max.to_string());
                    deed = deed.detail(what, format!("{} to {}", text(old), text(new)));
                }
            }
            tx.audit(self.now(), deed).await?;
            tx.commit().await?;
        }
        self.site_view(name).await
    }

    /// Sites that have nearly used up what they may hold.
    pub(super) async fn quota_warnings(
        &self,
        tally: Tally,
        sees: &(impl Fn(&SiteName) -> bool + Sync),
    ) -> Result<Vec<String>, AppError> {
        let world = self.world();
        let mut warnings = Vec::new();
        let are_for_all = self.effective().config.quotas != QuotasConfig::default();
        if !are_for_all && !tally.has_quotas {
            return Ok(Vec::new());
        }
        for ListedSite { row: site, releases_total, .. } in
            self.store().sites_with_totals(are_for_all).await?
        {
            let quotas = self.quotas(&site);
            if !sees(&site.name) || quotas == SiteQuotas::default() {
                continue;
            }
            let active = world.site(&site.name).and_then(|site| site.active_release());
            let (files, bytes) = active.map_or((0, 0), |row| (row.files_total, row.bytes_total));
            let totals = [files, bytes, releases_total];
            for ((what, max), total) in quotas.named().into_iter().zip(totals) {
                let Some(max) = max.filter(|max| is_near(total, *max)) else { continue };
                let what = what.trim_end_matches("_max");
                warnings.push(format!("{} has {total} of {max} {what}", site.name));
            }
        }
        Ok(warnings)
    }
}

const fn is_near(total: u64, max: u64) -> bool {
    total.saturating_mul(100) >= max.saturating_mul(WARN_PERCENT)
}

fn within(
    site: &SiteName,
    what: &'static str,
    total: u64,
    max: Option<u64>,
) -> Result<(), AppError> {
    match max {
        Some(max) if total > max => Err(AppError::Quota { site: site.clone(), what, total, max }),
        _ => Ok(()),
    }
}
