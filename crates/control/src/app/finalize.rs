//! Is everything of a release there, so that edges may fetch it?

use std::sync::Arc;

use nigh_proto::{
    Digest, Manifest, ReleaseId, SiteName,
    api::{ReleaseState, ReleaseView},
};

use super::{App, AppError, Expected, error::WrongSize};
use crate::{
    blobs::blocking,
    store::{Deed, ReleaseRow, Tx},
};

/// How many wrong sizes are named.
const WRONG_SIZES_MAX: usize = 20;
/// The longest manifest, in bytes: a million files with long names.
const MANIFEST_MAX_BYTES: u64 = 1 << 30;

impl App {
    /// Checks the release and tells edges to stage it. Finalizing twice is a success.
    pub(crate) async fn finalize(
        &self,
        site: &SiteName,
        release: &ReleaseRow,
        activate: bool,
        expected: &Expected,
    ) -> Result<ReleaseView, AppError> {
        self.push_goes_on();
        match release.state {
            ReleaseState::Uploading => {}
            ReleaseState::Expired | ReleaseState::Failed => {
                return Err(AppError::ReleaseState {
                    release: release.id.clone(),
                    state: release.state,
                    advice: "push the folder again",
                });
            }
            ReleaseState::Staging
            | ReleaseState::Staged
            | ReleaseState::Active
            | ReleaseState::Preview
            | ReleaseState::Superseded => return self.release_view(release).await,
        }
        expected.allow(release.state.label())?;
        let manifest = match self.recall_begun(release.manifest) {
            Some(manifest) => manifest,
            None => Arc::new(self.manifest(release.manifest).await?),
        };
        self.check_blobs(&manifest).await?;
        self.stage(site, &release.id, activate).await?;
        self.show_release(site, &release.id).await
    }

    /// Keeps the manifest of the release that began last, so that finalizing it does not read, check
    /// and parse megabytes that were just written. One is kept at most.
    pub(super) fn remember_begun(&self, digest: Digest, manifest: &Arc<Manifest>) {
        *self.begun() = Some((digest, Arc::clone(manifest)));
    }

    fn recall_begun(&self, digest: Digest) -> Option<Arc<Manifest>> {
        let begun = self.begun().take_if(|(begun, _)| *begun == digest);
        begun.map(|(_, manifest)| manifest)
    }

    /// The manifest that is kept as the blob `digest`.
    pub(crate) async fn manifest(&self, digest: Digest) -> Result<Manifest, AppError> {
        self.blobs().fetch(&[digest]).await?;
        let store = self.blobs().store().clone();
        blocking(move || {
            let text = store.read_up_to(&digest, MANIFEST_MAX_BYTES)?;
            Manifest::parse(&text).map_err(AppError::Manifest)
        })
        .await
    }

    /// Every blob of the manifest is stored and has the size that the manifest says.
    async fn check_blobs(&self, manifest: &Manifest) -> Result<(), AppError> {
        let digests: Vec<Digest> = manifest.entries().iter().map(|entry| entry.digest).collect();
        let mut sizes = self.blobs().sizes(&digests).await?;
        if digests.iter().any(|digest| !sizes.contains_key(digest)) {
            // The bucket may lack what the folder has.
            let missing = self.blobs().missing(digests.clone()).await?.len();
            if missing > 0 {
                return Err(AppError::ReleaseIncomplete { missing });
            }
            sizes = self.blobs().sizes(&digests).await?;
        }
        let wrong = manifest.entries().iter().filter_map(|entry| {
            let actual_bytes = *sizes.get(&entry.digest)?;
            (actual_bytes != entry.size_bytes).then(|| WrongSize {
                path: entry.path.to_string(),
                claimed_bytes: entry.size_bytes,
                actual_bytes,
            })
        });
        let files: Vec<_> = wrong.take(WRONG_SIZES_MAX).collect();
        if files.is_empty() { Ok(()) } else { Err(AppError::SizeMismatch { files }) }
    }

    /// One transaction: the release is staging, whatever it replaces is given up, the revision.
    async fn stage(&self, site: &SiteName, id: &ReleaseId, activate: bool) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        let Some(mut row) = tx.release(id).await? else {
            let (site, release) = (site.clone(), id.to_string());
            return Err(AppError::ReleaseUnknown { site, release });
        };
        if row.state != ReleaseState::Uploading {
            return Ok(());
        }
        if let Some(site) = tx.site(site).await? {
            self.check_quota(&site, &row)?;
        }
        let now = self.now();
        row.state = ReleaseState::Staging;
        row.finalized_at = Some(now);
        row.staging_at = Some(now);
        row.goes_live = activate && row.preview_host.is_none();
        let replaced = self.give_up_replaced(&mut tx, &row).await?;
        tx.update_release(&row).await?;
        self.record_release(&mut tx, &row).await?;
        tx.raise_revision().await?;
        let deed = Deed::new("release.finalize", id).site(site).detail("goes_live", row.goes_live);
        tx.audit(now, deed).await?;
        tx.commit().await?;
        self.metrics().release(row.state);
        self.note(&replaced);
        self.publish().await?;
        Ok(())
    }

    /// Gives up releases on their way to where `row` is going: the later one wins. Returns them.
    pub(super) async fn give_up_replaced(
        &self,
        tx: &mut Tx,
        row: &ReleaseRow,
    ) -> Result<Vec<ReleaseRow>, AppError> {
        let mut replaced = tx.releases_in(&row.site, ReleaseState::Staging).await?;
        replaced.retain(|other| {
            let same_place = if row.goes_live {
                other.goes_live
            } else {
                !other.goes_live
                    && row.preview_host.is_some()
                    && other.preview_host == row.preview_host
            };
            other.id != row.id && same_place
        });
        for other in &mut replaced {
            other.failure = Some(format!("replaced by {} before it was live", row.id));
            other.state = before_staging(other);
            other.goes_live = false;
            tx.update_release(other).await?;
            if other.state == ReleaseState::Expired {
                self.record_release(tx, other).await?;
            }
        }
        Ok(replaced)
    }
}

/// What a staging release was before somebody activated it: one that was live can be rolled back
/// to, a preview goes on, and one that was nothing yet is over.
fn before_staging(row: &ReleaseRow) -> ReleaseState {
    let was_live = row.preview_host.is_none() || row.grace_until.is_some();
    match row.activated_at.filter(|_| row.goes_live) {
        Some(_) if was_live => ReleaseState::Superseded,
        Some(_) => ReleaseState::Preview,
        None => ReleaseState::Expired,
    }
}
