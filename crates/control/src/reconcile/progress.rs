//! Which releases may go live, and which edges begin or cease to lag?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nigh_proto::{MachineName, ReleaseId};

use super::Reconcile;
use crate::{
    app::{App, AppError},
    fleet::{World, activation::Decision, lagging, presence::News},
};

/// While something is staging: edges that fall silent are noticed this soon.
const STAGING_WAIT: Duration = Duration::from_millis(500);
const IDLE_WAIT: Duration = Duration::from_secs(5);
/// How often one pass decides about a release anew because the fleet was another by then.
const TRIES: usize = 8;
/// How often every edge is looked at for every site, since some begin to lag by the clock alone.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs on every report and every change.
#[derive(Debug)]
pub(crate) struct Progress {
    app: App,
    /// Releases that were warned of.
    stuck: BTreeSet<ReleaseId>,
    /// When everything was looked at last.
    looked_at: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(app: App) -> Self {
        Self { app, stuck: BTreeSet::new(), looked_at: None }
    }

    async fn settle_lagging(&mut self, news: &BTreeMap<MachineName, News>) -> Result<(), AppError> {
        let (world, now, instant) = (self.app.world(), self.app.now(), self.app.instant());
        let is_due = self.looked_at.is_none_or(|at| {
            let since = instant.saturating_duration_since(at);
            since >= LOOK_EVERY
        });
        let changes = {
            let statuses = self.app.statuses();
            if is_due {
                lagging::changes(&world, &statuses, instant, now)
            } else {
                lagging::changes_by(news, &world, &statuses, instant, now)
            }
        };
        // Unless this is carried through, everything is looked at again.
        let looked_at = self.looked_at.take();
        if changes.is_empty() {
            self.looked_at = if is_due { Some(instant) } else { looked_at };
            return Ok(());
        }
        let mut tx = self.app.begin_leading().await?;
        // Another release may be active by now; the change rings for another pass.
        if tx.revision().await? != world.revision {
            return Ok(());
        }
        for change in &changes {
            tx.set_lagging(&change.site, &change.edge, change.is_lagging).await?;
            self.app.record_lagging(&mut tx, &change.site, &change.edge, change.is_lagging).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.app.publish().await?;
        self.looked_at = if is_due { Some(instant) } else { looked_at };
        for lagging::Change { site, edge, is_lagging } in changes {
            let what = if is_lagging { "lags behind" } else { "has caught up with" };
            tracing::info!(site.name = %site, edge.name = %edge, "{edge} {what} {site}");
        }
        Ok(())
    }

    async fn settle_staging(&mut self) -> Result<(), AppError> {
        let releases = |world: &World| -> BTreeSet<ReleaseId> {
            world.staging().map(|(_, release)| release.id.clone()).collect()
        };
        for id in releases(&self.app.world()) {
            self.settle(&id).await?;
        }
        let staging = releases(&self.app.world());
        self.stuck.retain(|id| staging.contains(id));
        Ok(())
    }

    /// Decides about one staging release, by the newest world: machines may join and other releases
    /// go live all the while, and a pass for each such change would be a long wait for the last.
    async fn settle(&mut self, id: &ReleaseId) -> Result<(), AppError> {
        for _ in 0..TRIES {
            let world = self.app.world();
            let staging = world.staging().find(|(_, release)| release.id == *id);
            let Some((site, release)) = staging else { return Ok(()) };
            match self.app.decision(&world, release) {
                Decision::Wait { .. } => return Ok(()),
                Decision::Go { lagging } => {
                    if self.app.go(id, &lagging, world.revision).await? {
                        return Ok(());
                    }
                    self.app.refresh().await?;
                }
                Decision::Stuck => {
                    if self.stuck.insert(id.clone()) {
                        tracing::warn!(
                            site.name = %site.name,
                            release.id = %id,
                            "no edge has staged {id} of {} by its deadline; still waiting",
                            site.name,
                        );
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Reconcile for Progress {
    const NAME: &'static str = "progress";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        self.app.refresh().await?;
        let news = self.app.statuses().take_news();
        self.app.observe_progress(&news);
        // Unless this is carried through, everything is looked at again: this news is told once.
        let looked_at = self.looked_at.take();
        // The leader decides for all: it knows of every edge how it stands.
        if self.app.leader().is_leader() {
            self.settle_staging().await?;
            self.looked_at = looked_at;
            self.settle_lagging(&news).await?;
        }
        let is_staging = self.app.world().staging().next().is_some();
        Ok(if is_staging { STAGING_WAIT } else { IDLE_WAIT })
    }
}
