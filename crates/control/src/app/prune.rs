//! Which releases of a site are not needed any more?

use nigh_proto::{
    ReleaseId, SiteName,
    api::{EventKind, ReleaseState},
};

use super::{App, AppError};
use crate::store::{Deed, ReleaseFilter, ReleaseRow};

/// More releases than this are pruned by the next call.
const LOOKED_AT_MAX: u32 = 100_000;

impl App {
    /// Deletes all but the newest `keep` releases, and those that are live or on their way.
    pub(crate) async fn prune(
        &self,
        site: &SiteName,
        keep: u32,
    ) -> Result<Vec<ReleaseId>, AppError> {
        self.require_site(site).await?;
        let rows = self.store().releases(site, &ReleaseFilter::default(), LOOKED_AT_MAX).await?;
        let mut pruned = Vec::new();
        let mut tx = self.store().begin().await?;
        for row in surplus(&rows, keep as usize) {
            // It may have been activated since it was looked at.
            if tx.release(&row.id).await?.is_some_and(|row| is_idle(row.state)) {
                tx.delete_release(&row.id).await?;
                self.record_release_as(&mut tx, EventKind::ReleaseDeleted, row).await?;
                pruned.push(row.id.clone());
            }
        }
        if pruned.is_empty() {
            return Ok(pruned);
        }
        tx.raise_revision().await?;
        let deed = Deed::new("release.prune", site)
            .site(site)
            .detail("keep", keep)
            .detail("releases_total", pruned.len());
        tx.audit(self.now(), deed).await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(
            site.name = %site, releases_total = pruned.len(),
            "{} releases of {site} were pruned", pruned.len()
        );
        Ok(pruned)
    }
}

/// Releases beyond the newest `keep`, of those that nobody sees and nobody waits for.
/// `rows` are the releases of one site, newest first.
pub(crate) fn surplus(rows: &[ReleaseRow], keep: usize) -> impl Iterator<Item = &ReleaseRow> {
    rows.iter().filter(|row| is_idle(row.state)).skip(keep)
}

const fn is_idle(state: ReleaseState) -> bool {
    match state {
        ReleaseState::Uploading
        | ReleaseState::Staging
        | ReleaseState::Active
        | ReleaseState::Preview => false,
        ReleaseState::Staged
        | ReleaseState::Superseded
        | ReleaseState::Expired
        | ReleaseState::Failed => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixture::{release, release_row};

    #[test]
    fn the_newest_stay_and_what_is_live_does_not_count() {
        let rows = [
            release_row(6, ReleaseState::Uploading),
            release_row(5, ReleaseState::Active),
            release_row(4, ReleaseState::Superseded),
            release_row(3, ReleaseState::Preview),
            release_row(2, ReleaseState::Failed),
            release_row(1, ReleaseState::Superseded),
        ];
        let pruned = |keep| surplus(&rows, keep).map(|row| row.id.clone()).collect::<Vec<_>>();
        assert_eq!(pruned(1), [release(2), release(1)]);
        assert_eq!(pruned(3), []);
    }
}
