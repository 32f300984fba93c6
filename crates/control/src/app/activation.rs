//! How does a release become the one that is served?
//!
//! One transaction holds everything that a visitor could notice: the release that is active, the
//! grace of the one before, and the edges that lag.

use nigh_proto::{
    MachineName, ReleaseId, SiteName,
    api::{EventKind, ReleaseState, ReleaseView},
};

use super::{App, AppError, Expected};
use crate::{
    fleet::{
        World,
        activation::{Decision, decide, readiness},
    },
    request::Actor,
    store::{Deed, ReleaseRow, StoreError, Tx},
};

/// What was asked for, and what is expected: of the release, or of the site.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    Activation(&'a Expected),
    Rollback(&'a Expected),
}

impl App {
    /// Makes a release the one that every edge serves: at once when all edges that count have it,
    /// else as soon as they have. Activating twice is a success.
    pub(crate) async fn activate(
        &self,
        site: &SiteName,
        id: &ReleaseId,
        expected: &Expected,
    ) -> Result<ReleaseView, AppError> {
        self.activate_as(site, id, Asked::Activation(expected)).await
    }

    async fn activate_as(
        &self,
        site: &SiteName,
        id: &ReleaseId,
        asked: Asked<'_>,
    ) -> Result<ReleaseView, AppError> {
        self.refresh().await?;
        let mut tx = self.store().begin().await?;
        if let Asked::Rollback(expected) = asked {
            let known = tx.site(site).await?;
            let known = known.ok_or_else(|| AppError::SiteUnknown(site.clone()))?;
            expected.allow_live(&known.edits(), known.active.as_ref())?;
        }
        let Some(mut row) = tx.release(id).await? else {
            let (site, release) = (site.clone(), id.to_string());
            return Err(AppError::ReleaseUnknown { site, release });
        };
        let advice = match row.state {
            ReleaseState::Active => return self.release_view(&row).await,
            ReleaseState::Uploading => Some("upload its blobs and finalize it first"),
            ReleaseState::Expired | ReleaseState::Failed => Some("push the folder again"),
            ReleaseState::Staging
            | ReleaseState::Staged
            | ReleaseState::Preview
            | ReleaseState::Superseded => None,
        };
        if let Some(advice) = advice {
            let (release, state) = (row.id, row.state);
            return Err(AppError::ReleaseState { release, state, advice });
        }
        if let Asked::Activation(expected) = asked {
            expected.allow(row.state.label())?;
        }
        row.goes_live = true;
        row.staging_at = Some(self.now());
        row.failure = None;
        let replaced = self.give_up_replaced(&mut tx, &row).await?;
        let world = self.world();
        let is_newest = tx.revision().await? == world.revision;
        if let Asked::Rollback(_) = asked {
            self.record_release_as(&mut tx, EventKind::ReleaseRolledBack, &row).await?;
        }
        match self.decision(&world, &row) {
            // Only the leader is sure to know of every edge how it stands.
            Decision::Go { lagging } if is_newest && self.leader().is_leader() => {
                self.make_active(&mut tx, &mut row, &lagging).await?;
            }
            // What was committed and not published yet may be an edge that has nothing.
            Decision::Go { .. } | Decision::Wait { .. } | Decision::Stuck => {
                row.state = ReleaseState::Staging;
                tx.update_release(&row).await?;
                tx.raise_revision().await?;
            }
        }
        let deed = Deed::new("release.activate", id).site(site).detail("state", row.state.label());
        tx.audit(self.now(), deed).await?;
        tx.commit().await?;
        self.metrics().release(row.state);
        self.note(&replaced);
        self.publish().await?;
        self.show_release(site, id).await
    }

    /// Activates the release that was active before, or the one asked for.
    pub(crate) async fn roll_back(
        &self,
        site: &SiteName,
        release: Option<ReleaseId>,
        expected: &Expected,
    ) -> Result<ReleaseView, AppError> {
        self.refresh().await?;
        self.require_site(site).await?;
        let previous = || {
            let world = self.world();
            world.site(site).and_then(|site| site.previous().map(|row| row.id.clone()))
        };
        let target = release.or_else(previous);
        let target = target.ok_or_else(|| AppError::NothingToRollBack(site.clone()))?;
        self.require_release(site, target.as_str()).await?;
        self.activate_as(site, &target, Asked::Rollback(expected)).await
    }

    /// What is to be done about a release that wants to go live, as edges stand now.
    pub(crate) fn decision(&self, world: &World, row: &ReleaseRow) -> Decision {
        let Some(site) = world.site(&row.site) else { return Decision::Stuck };
        let edges = readiness(world, &self.statuses(), site, row, self.instant());
        let wait_ms = self.effective().config.sites.stage_deadline_ms;
        let since = row.staging_at.unwrap_or(row.created_at);
        decide(&edges, since.plus_ms(i64::try_from(wait_ms).unwrap_or(i64::MAX)), self.now())
    }

    /// Lets a staging release go where it was meant to: onto the site's hosts, onto its own, or
    /// just to be ready; whether it went. Nothing happens to one that is no longer staging, nor when
    /// the fleet has changed since `revision`, at which this was decided: then it is to be decided
    /// again.
    pub(crate) async fn go(
        &self,
        id: &ReleaseId,
        lagging: &[MachineName],
        revision: u64,
    ) -> Result<bool, AppError> {
        let mut tx = self.begin_leading().await?;
        if tx.revision().await? != revision {
            return Ok(false);
        }
        let Some(mut row) = tx.release(id).await? else { return Ok(false) };
        if row.state != ReleaseState::Staging {
            return Ok(false);
        }
        let mut replaced = Vec::new();
        if row.goes_live {
            self.make_active(&mut tx, &mut row, lagging).await?;
        } else if row.preview_host.is_some() {
            replaced = self.make_preview(&mut tx, &mut row).await?;
        } else {
            row.state = ReleaseState::Staged;
            tx.update_release(&row).await?;
            self.record_release(&mut tx, &row).await?;
        }
        let deed = Deed::new("release.staged", id)
            .site(&row.site)
            .detail("state", row.state.label())
            .detail("edges_lagging", lagging.len());
        tx.audit_by(Actor::control(), self.now(), deed).await?;
        tx.commit().await?;
        self.metrics().release(row.state);
        self.note(&replaced);
        self.publish().await?;
        self.went(&row, lagging);
        Ok(true)
    }

    async fn make_active(
        &self,
        tx: &mut Tx,
        row: &mut ReleaseRow,
        lagging: &[MachineName],
    ) -> Result<(), StoreError> {
        let now = self.now();
        let grace_ms = self.effective().config.sites.grace_ms;
        let grace_until = now.plus_ms(i64::try_from(grace_ms).unwrap_or(i64::MAX));
        for mut before in tx.releases_in(&row.site, ReleaseState::Active).await? {
            before.state = ReleaseState::Superseded;
            before.grace_until = Some(grace_until);
            tx.update_release(&before).await?;
        }
        row.state = ReleaseState::Active;
        row.activated_at = Some(now);
        row.grace_until = None;
        row.failure = None;
        row.live_revision = Some(tx.raise_revision().await?);
        tx.update_release(row).await?;
        tx.set_active(&row.site, &row.id).await?;
        tx.replace_lagging(&row.site, lagging).await?;
        self.record_release(tx, row).await?;
        for edge in lagging {
            self.record_lagging(tx, &row.site, edge, true).await?;
        }
        Ok(())
    }

    /// Puts a release on its own host; an earlier one that has that host gives it up. Returns
    /// those.
    async fn make_preview(
        &self,
        tx: &mut Tx,
        row: &mut ReleaseRow,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        let mut replaced = Vec::new();
        for state in [ReleaseState::Preview, ReleaseState::Active, ReleaseState::Staging] {
            for mut other in tx.releases_in(&row.site, state).await? {
                let is_on_its_way = state == ReleaseState::Staging && !other.goes_live;
                if other.preview_host != row.preview_host || is_on_its_way {
                    continue;
                }
                if state == ReleaseState::Preview {
                    other.state = ReleaseState::Expired;
                    other.failure = Some(format!("its host went to {}", row.id));
                }
                other.preview_host = None;
                tx.update_release(&other).await?;
                if other.state == ReleaseState::Expired {
                    self.record_release(tx, &other).await?;
                }
                replaced.push(other);
            }
        }
        row.state = ReleaseState::Preview;
        row.activated_at = Some(self.now());
        row.live_revision = Some(tx.raise_revision().await?);
        tx.update_release(row).await?;
        self.record_release(tx, row).await?;
        Ok(replaced)
    }

    /// Tells the log and the metrics.
    fn went(&self, row: &ReleaseRow, lagging: &[MachineName]) {
        let ms = row.staging_at.map_or(0, |since| self.now().ms_since(since).max(0));
        self.metrics().staged(row.state, std::time::Duration::from_millis(ms.unsigned_abs()));
        let names = lagging.iter().map(MachineName::as_str).collect::<Vec<_>>().join(", ");
        tracing::info!(
            site.name = %row.site,
            release.id = %row.id,
            duration_ms = ms,
            edges_lagging = lagging.len(),
            "release {} of {} is {} after {ms} ms{}{names}",
            row.id,
            row.site,
            row.state.label(),
            if lagging.is_empty() { "" } else { "; left behind: " },
        );
    }
}
