//! Is an edge that cannot stage a release being given damaged blobs?
//!
//! Blobs go out as they are stored, unchecked, and edges refuse bad ones. So when an edge says that
//! it failed, the blobs of that release are checked here and damaged ones forgotten: another edge, or
//! the next push of the folder, brings them back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nigh_core::blob::{FileError, ReadError, Store};
use nigh_proto::{Digest, ReleaseId, pack::PackHead};

use super::Reconcile;
use crate::{
    app::{App, AppError},
    blobs::blocking,
    store::ReleaseRow,
};

const WAIT: Duration = Duration::from_secs(5);
/// A release is checked again no sooner: an edge may fail for reasons of its own.
const AGAIN: Duration = Duration::from_secs(10 * 60);

/// Checks releases that edges fail to stage.
#[derive(Debug)]
pub(crate) struct Scrub {
    app: App,
    /// When releases were checked; as many as machines hold at most.
    checked: BTreeMap<ReleaseId, Instant>,
}

impl Scrub {
    pub(crate) fn new(app: App) -> Self {
        Self { app, checked: BTreeMap::new() }
    }

    /// Releases that some edge cannot stage, as it last said.
    fn failing(&self) -> Vec<ReleaseRow> {
        let world = self.app.world();
        let statuses = self.app.statuses();
        let has_failed = |row: &&ReleaseRow| {
            world
                .edges()
                .filter_map(|edge| statuses.site(&edge.name, &row.site))
                .any(|report| report.failed.iter().any(|failure| failure.release == row.id))
        };
        let releases = world.sites.iter().flat_map(|site| &site.releases);
        releases.filter(has_failed).cloned().collect()
    }

    async fn check(&self, row: &ReleaseRow) -> Result<(), AppError> {
        let mut digests = vec![row.manifest, row.rules];
        // Without the manifest nothing more is known; pushing the folder again restores it.
        if let Ok(manifest) = self.app.manifest(row.manifest).await {
            digests.extend(manifest.entries().iter().map(|entry| entry.digest));
        }
        let store = self.app.blobs().store().clone();
        let damaged = blocking(move || forget_damaged(&store, digests)).await?;
        if damaged > 0 && self.app.blobs().remote().is_some() {
            tracing::warn!(
                blobs_damaged = damaged,
                "{damaged} damaged blobs come from the bucket now"
            );
        } else if damaged > 0 {
            let (site, id) = (&row.site, &row.id);
            tracing::error!(
                site.name = %site, release.id = %id, blobs_damaged = damaged,
                "{damaged} blobs of release {id} are damaged on control; edges are asked for them",
            );
            self.app.refilled().notify_one();
        }
        Ok(())
    }
}

/// How many of these blobs were damaged, and are missing from now on.
fn forget_damaged(store: &Store, digests: Vec<Digest>) -> Result<usize, FileError> {
    let mut damaged = 0;
    for digest in digests.iter().filter(|digest| is_damaged(store, digest)) {
        damaged += usize::from(store.forget(digest)?);
    }
    Ok(damaged)
}

/// Whether the bytes are others; not when they just cannot be read now.
fn is_damaged(store: &Store, digest: &Digest) -> bool {
    match store.open_loose(digest) {
        Ok((file, _)) => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).is_ok() && Digest::from(hasher.finalize()) != *digest
        }
        Err(ReadError::Packed { .. }) => {
            let read = store.read_up_to(digest, u64::from(PackHead::MAX_BLOB_BYTES));
            matches!(read, Err(ReadError::Corrupt { .. }))
        }
        Err(ReadError::Corrupt { .. }) => true,
        Err(_) => false,
    }
}

impl Reconcile for Scrub {
    const NAME: &'static str = "scrub";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let now = self.app.instant();
        self.checked.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        for row in self.failing() {
            if !self.checked.contains_key(&row.id) {
                self.check(&row).await?;
                self.checked.insert(row.id, now);
            }
        }
        Ok(WAIT)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use nigh_proto::{report::StageFailure, state::Revision};

    use super::*;
    use crate::{
        app::fixture::{Fixture, docs},
        fleet::fixture::report,
    };

    /// Changes one byte of the body in whichever pack it is.
    fn damage(packs: &Path, body: &[u8]) {
        for pack in fs::read_dir(packs).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(body.len()).position(|window| window == body) {
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_damaged_blob_that_keeps_an_edge_from_staging_is_asked_for_again() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let pushed = fixture.push("one").await;
        let digest = Digest::of(b"one");
        damage(&fixture.dir.path().join("blobs/packs"), b"one");
        fixture.commit_join("fra1").await;
        app.refresh().await.unwrap();
        let mut scrub = Scrub::new(app.clone());
        scrub.pass().await.unwrap();
        assert!(app.blobs().stat(&digest).is_some(), "nobody has failed yet");

        let mut failed = report("fra1", &[]);
        failed.revision = Some(Revision(1));
        failed.sites[0].site = docs();
        failed.sites[0].failed =
            vec![StageFailure { release: pushed.id.clone(), reason: "a bad pack".to_owned() }];
        app.statuses().reported(failed, app.instant(), app.now());
        scrub.pass().await.unwrap();
        assert_eq!(app.blobs().stat(&digest), None);
        fixture.push("one").await;
        assert_eq!(app.blobs().read(digest, 3).await.unwrap(), b"one");
    }
}
