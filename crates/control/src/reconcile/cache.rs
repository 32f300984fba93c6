//! Do the folder and the bucket agree on what is kept where?
//!
//! What the folder had before there was a bucket is put there once after the start. Afterwards the
//! folder is a cache: when it holds too much, blobs that the bucket has go, the oldest first and those
//! that were read of late last. A mirror holds everything instead.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use nigh_daemon::readiness::Condition;
use nigh_proto::Digest;

use super::Reconcile;
use crate::{
    app::{App, AppError},
    blobs::{BlobError, Remote, blocking},
};

const WAIT: Duration = Duration::from_secs(15);
/// How often blobs are looked for that the bucket does not have.
const DROP_EVERY: Duration = Duration::from_secs(60 * 60);
/// Blobs that are looked at or moved at a time.
const BATCH: usize = 2000;

/// Keeps the folder in line with the bucket.
#[derive(Debug)]
pub(crate) struct Cache {
    app: App,
    bucket: Condition,
    /// Whether the bucket has what the folder had at the start.
    has_moved: bool,
    dropped_at: Instant,
}

impl Cache {
    pub(crate) fn new(app: App, bucket: Condition) -> Self {
        let dropped_at = app.instant();
        Self { app, bucket, has_moved: false, dropped_at }
    }

    async fn with(&mut self, remote: &Arc<Remote>) -> Result<(), AppError> {
        if !self.has_moved {
            self.app.move_into(remote).await?;
            self.has_moved = true;
        }
        let config = self.app.effective().config.blobs.clone();
        if config.mirror {
            self.app.mirror(remote).await?;
        } else {
            self.app.evict(remote, config.cache_bytes).await?;
        }
        let now = self.app.instant();
        if now.saturating_duration_since(self.dropped_at) >= DROP_EVERY {
            self.app.drop_unknown(remote).await?;
            self.dropped_at = now;
        }
        Ok(())
    }
}

impl App {
    /// Puts into the bucket what only the folder has.
    pub(crate) async fn move_into(&self, remote: &Arc<Remote>) -> Result<(), BlobError> {
        let mut moved = 0;
        for batch in self.blobs().store().digests().chunks(BATCH) {
            let missing = remote.missing(batch).await?;
            if self.stopping().is_cancelled() {
                break;
            }
            remote.keep(&missing).await?;
            moved += missing.len();
        }
        if moved > 0 {
            tracing::info!(blobs = moved, "{moved} blobs of the folder are in the bucket now");
        }
        Ok(())
    }

    /// Brings into the folder what only the bucket has.
    pub(crate) async fn mirror(&self, remote: &Arc<Remote>) -> Result<(), BlobError> {
        let folder = self.blobs().store();
        let mut missing = self.store().bucket_digests().await?;
        missing.retain(|digest| !folder.contains(digest));
        remote.standing().unmirrored_blobs = Some(missing.len() as u64);
        for batch in missing.chunks(BATCH / 10) {
            if self.stopping().is_cancelled() {
                break;
            }
            remote.fetch(batch).await?;
            let left = missing.iter().filter(|digest| !folder.contains(digest)).count();
            remote.standing().unmirrored_blobs = Some(left as u64);
        }
        Ok(())
    }

    /// Makes room in a folder that holds more than `cache_bytes`.
    pub(crate) async fn evict(
        &self,
        remote: &Arc<Remote>,
        cache_bytes: u64,
    ) -> Result<(), AppError> {
        if self.blobs().is_kept() {
            // A backup reads them.
            return Ok(());
        }
        let folder = self.blobs().store().clone();
        let held = folder.usage().disk_bytes;
        if held <= cache_bytes {
            return Ok(());
        }
        // A tenth more than needed, so that the next push does not need the same at once.
        let over = held - (cache_bytes - cache_bytes / 10);
        let oldest = folder.clone();
        let oldest = blocking(move || oldest.oldest(over)).await?;
        let kept = known(remote, &oldest).await?;
        let is_needed = move |digest: &Digest| !kept.contains(digest);
        let collected = blocking(move || folder.collect(&is_needed, Duration::ZERO)).await?;
        tracing::debug!(
            blobs = collected.blobs,
            freed_bytes = collected.freed_bytes,
            "the folder held too much"
        );
        Ok(())
    }

    /// Drops what the bucket does not have and nobody goes on uploading.
    pub(crate) async fn drop_unknown(&self, remote: &Arc<Remote>) -> Result<(), AppError> {
        let config = &self.effective().config;
        // An upload may be taken up again as long as its release waits for it.
        let young_ms = config.blobs.collect_young_ms.max(config.sites.upload_expires_ms);
        let folder = self.blobs().store().clone();
        let kept = known(remote, &folder.digests()).await?;
        let is_kept = move |digest: &Digest| kept.contains(digest);
        let young = Duration::from_millis(young_ms);
        blocking(move || folder.collect(&is_kept, young)).await?;
        Ok(())
    }
}

/// Those of `digests` that the bucket has.
async fn known(remote: &Remote, digests: &[Digest]) -> Result<HashSet<Digest>, AppError> {
    let mut known = HashSet::with_capacity(digests.len());
    for batch in digests.chunks(BATCH) {
        known.extend(remote.places(batch).await?.into_iter().map(|place| place.digest));
    }
    Ok(known)
}

impl Reconcile for Cache {
    const NAME: &'static str = "cache";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let Some(remote) = self.app.blobs().remote().cloned() else { return Ok(WAIT) };
        let checked = remote.check().await;
        let metrics = self.app.metrics();
        metrics.bucket_usable.set(i64::from(checked.is_ok()));
        metrics.bucket_lost_blobs.set(remote.standing().lost_blobs);
        if let Err(error) = checked {
            self.bucket.set_unready(nigh_daemon::logging::causes(&error));
            return Ok(WAIT);
        }
        self.bucket.set_ready();
        self.with(&remote).await?;
        Ok(WAIT)
    }
}
