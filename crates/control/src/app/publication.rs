//! How does what was committed reach everyone who waits for it?

use std::sync::Arc;

use super::App;
use crate::{fleet::World, store::StoreError};

impl App {
    /// Publishes what was committed when nobody has done so yet: after an error in between, and
    /// before a verb that builds on what its caller may have seen committed already.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        if self.0.store.revision().await? > self.world().revision {
            self.publish().await?;
        }
        Ok(())
    }

    /// Shows what was committed to every machine's stream and everyone who waits.
    pub(crate) async fn publish(&self) -> Result<(), StoreError> {
        let _alone = self.0.publishing.lock().await;
        // Another who waited for the lock may have published this too.
        let shown = self.world().revision;
        if shown > 0 && self.0.store.revision().await? == shown {
            return Ok(());
        }
        let world = Arc::new(self.0.store.world().await?);
        self.adopt(&world.authorities);
        self.0.metrics.revision.set(i64::try_from(world.revision).unwrap_or(i64::MAX));
        let settings = Arc::clone(&self.effective().settings);
        self.editions().publish(Arc::clone(&world), settings, self.now());
        self.forget_strangers(&world);
        self.0.world.send_replace(world);
        self.0.reported.notify_one();
        self.0.certify.notify_one();
        self.0.proving.notify_one();
        self.0.progress.send_replace(());
        self.ring_events().await
    }

    /// Forgets what was said by machines that were removed or have joined again, on whichever
    /// control that was.
    fn forget_strangers(&self, world: &World) {
        for before in &self.world().machines {
            if world.machine(&before.name).is_none_or(|row| row.id != before.id) {
                self.statuses().forget(&before.name);
            }
        }
        self.0.desk.forget_strangers(world);
    }
}
