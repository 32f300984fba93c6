//! Which blobs does nothing need any more?
//!
//! Mark and sweep. Live is every blob of every release that is not over (those that are being
//! uploaded among them), its documents, and variants of contents that are live. Marking reads
//! manifests and takes a while; meanwhile releases may begin, so the sweep is settled under
//! [`Blobs::settle`](crate::blobs::Blobs::settle), when nobody is being promised a blob, after
//! marking once more what has begun since. The store keeps what is young or was asked for of late.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use nigh_core::blob::Store;
use nigh_proto::{Digest, Manifest, ReleaseId};

use super::{Leader, Reconcile};
use crate::{
    app::{App, AppError},
    blobs::{Needed, blocking},
    store::{ReleaseRow, VariantRow},
};

const MANIFEST_MAX_BYTES: u64 = 1 << 30;

/// Collects blobs now and then.
#[derive(Debug)]
pub(crate) struct Collection {
    app: App,
    /// The first pass would only slow the start down.
    is_first: bool,
}

/// Everything that is needed, as far as it was marked.
#[derive(Debug, Default)]
struct Live {
    releases: BTreeSet<ReleaseId>,
    /// Those that are over as well.
    known: BTreeSet<ReleaseId>,
    digests: HashSet<Digest>,
}

impl Collection {
    pub(crate) fn new(app: App) -> Self {
        Self { app, is_first: true }
    }
}

impl App {
    /// One collection; see the module. How many blobs are gone.
    pub(crate) async fn collect(&self, young: Duration) -> Result<u64, AppError> {
        if self.blobs().is_kept() {
            // A backup reads them.
            return Ok(0);
        }
        let live = self.mark(Live::default()).await?;
        // With a bucket the database settles it, for however many controls.
        let settled = match self.blobs().remote() {
            Some(_) => None,
            None => Some(self.blobs().settle().await),
        };
        let live = self.mark(live).await?;
        let (live, dead) = self.mark_variants(live).await?;
        // Promises made from here on are kept by the store: what it said is there outlives this.
        drop(settled);
        self.leader().confirm(self.store()).await?;
        let collected = match self.blobs().remote() {
            Some(remote) => {
                let needed = Needed { digests: &live.digests, releases: &live.known };
                remote.sweep(&needed, young).await?.blobs
            }
            None => {
                let store = self.blobs().store().clone();
                let is_live = move |digest: &Digest| live.digests.contains(digest);
                blocking(move || store.collect(&is_live, young)).await?.blobs
            }
        };
        for batch in dead.chunks(1000) {
            let mut tx = self.begin_leading().await?;
            for content in batch {
                tx.forget_variants(content).await?;
            }
            tx.commit().await?;
        }
        Ok(collected)
    }

    /// Marks every release that is not marked yet.
    async fn mark(&self, live: Live) -> Result<Live, AppError> {
        let rows = self.store().all_releases().await?;
        let is_new = |row: &&ReleaseRow| row.needs_blobs() && !live.releases.contains(&row.id);
        let manifests: Vec<Digest> = rows.iter().filter(is_new).map(|row| row.manifest).collect();
        self.blobs().fetch(&manifests).await?;
        let store = self.blobs().store().clone();
        blocking(move || {
            let mut live = live;
            live.known.extend(rows.iter().map(|row| row.id.clone()));
            for row in rows.iter().filter(|row| row.needs_blobs()) {
                // An index of variants may be replaced while the release stays the same.
                live.digests.extend(row.variants);
                if live.releases.insert(row.id.clone()) {
                    live.mark_release(row, &store)?;
                }
            }
            Ok(live)
        })
        .await
    }

    /// Marks variants of live contents; also returns contents that are dead but have variants.
    async fn mark_variants(&self, mut live: Live) -> Result<(Live, Vec<Digest>), AppError> {
        let mut of: HashMap<Digest, Vec<VariantRow>> = HashMap::new();
        for row in self.store().all_variants().await? {
            of.entry(row.content).or_default().push(row);
        }
        let mut dead = Vec::new();
        for (content, rows) in of {
            if live.digests.contains(&content) {
                live.digests.extend(rows.iter().filter_map(|row| row.digest));
            } else {
                dead.push(content);
            }
        }
        Ok((live, dead))
    }
}

impl Live {
    fn mark_release(&mut self, row: &ReleaseRow, store: &Store) -> Result<(), AppError> {
        self.digests.extend([row.manifest, row.rules]);
        let text = store.read_up_to(&row.manifest, MANIFEST_MAX_BYTES)?;
        let manifest = Manifest::parse(&text).map_err(AppError::Manifest)?;
        self.digests.extend(manifest.entries().iter().map(|entry| entry.digest));
        Ok(())
    }
}

impl Reconcile for Collection {
    const NAME: &'static str = "collection";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.app.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let config = self.app.effective().config.blobs.clone();
        let wait = Duration::from_millis(config.collect_interval_ms);
        if std::mem::take(&mut self.is_first) {
            return Ok(wait);
        }
        let young = Duration::from_millis(config.collect_young_ms);
        let collected = match self.app.collect(young).await {
            Ok(collected) => collected,
            // Such as a manifest that cannot be read: reading all of them again in a moment would
            // not help, and nothing may be taken as long as one is unknown.
            Err(error) => {
                let error = nigh_daemon::logging::causes(&error);
                tracing::error!(error, "nothing was collected; what is wrong has to be mended");
                return Ok(wait);
            }
        };
        self.app.metrics().collected_blobs.inc_by(collected);
        if collected > 0 {
            tracing::info!(
                blobs = collected,
                "{collected} blobs that nothing needed were collected"
            );
        }
        Ok(wait)
    }
}
