//! Can control still write?

use std::{sync::Arc, time::Duration};

use nigh_daemon::readiness::Condition;

use super::Reconcile;
use crate::{
    app::{App, AppError},
    blobs::blocking,
    fleet::presence::Presence,
};

const WAIT: Duration = Duration::from_secs(5);

/// Writes to the database and the blob folder, and keeps the gauges.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) app: App,
    pub(crate) database: Condition,
    pub(crate) disk: Condition,
}

impl Reconcile for Health {
    const NAME: &'static str = "health";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        match self.app.store().check_writable().await {
            Ok(()) => self.database.set_ready(),
            Err(error) => {
                self.database.set_unready(nigh_daemon::logging::causes(&error));
            }
        }
        let dir = self.app.effective().config.state_dir.clone();
        match blocking(move || tempfile::tempfile_in(dir).and_then(|file| file.set_len(4096))).await
        {
            Ok(()) => self.disk.set_ready(),
            Err(error) => self.disk.set_unready(format!("blobs cannot be written: {error}")),
        }
        let (uploads, now) = (Arc::clone(&self.app.blobs().uploads), self.app.instant());
        blocking(move || uploads.close_idle(now)).await;
        let usage = self.app.blobs().usage();
        let metrics = self.app.metrics();
        metrics.blobs.set(usage.blobs);
        metrics.blobs_bytes.set(usage.bytes);
        metrics.leader.set(self.app.leader().is_leader().into());
        let (world, now) = (self.app.world(), self.app.instant());
        let statuses = self.app.statuses();
        let here = |name| statuses.presence(name, now) == Presence::Here;
        let connected = world.machines.iter().filter(|machine| here(&machine.name)).count();
        metrics.machines_connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
        Ok(WAIT)
    }
}
