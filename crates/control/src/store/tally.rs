//! How much is there, and what of it is worth a closer look?

use super::{Store, StoreError, sql::query};

/// What every status begins with, in one statement: most fleets have nothing to be warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub sites_total: u64,
    pub releases_total: u64,
    /// Whether a site has quotas of its own.
    pub has_quotas: bool,
    pub has_webhooks: bool,
    /// Whether an edge could not serve with a new certificate.
    pub has_refused_candidates: bool,
}

impl Store {
    pub(crate) async fn tally(&self) -> Result<Tally, StoreError> {
        let row = query(
            "SELECT (SELECT count(*) FROM sites) AS sites, \
             (SELECT count(*) FROM releases) AS releases, \
             EXISTS (SELECT 1 FROM sites WHERE files_max IS NOT NULL \
             OR bytes_max IS NOT NULL OR releases_max IS NOT NULL) AS has_quotas, \
             EXISTS (SELECT 1 FROM webhooks) AS has_webhooks, \
             EXISTS (SELECT 1 FROM candidates WHERE refused IS NOT NULL) AS has_refused",
        )
        .fetch_one(&self.reader)
        .await?;
        Ok(Tally {
            sites_total: row.number("sites")?,
            releases_total: row.number("releases")?,
            has_quotas: row.get("has_quotas")?,
            has_webhooks: row.get("has_webhooks")?,
            has_refused_candidates: row.get("has_refused")?,
        })
    }
}
