//! Which blobs of releases are not here, so that edges are asked for them?
//!
//! After a restore without blobs, with a blob folder that was lost, or when damaged blobs were
//! forgotten. Documents come first: only a manifest says which other blobs its release needs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use nigh_core::blob::Store as BlobStore;
use nigh_proto::{Digest, Manifest, variants::VariantIndex};

use super::Reconcile;
use crate::{
    app::{App, AppError, Counted},
    blobs::blocking,
    store::ReleaseRow,
};

/// While blobs come in.
const BUSY: Duration = Duration::from_secs(2);
/// While some are missing and none come.
const STUCK: Duration = Duration::from_secs(30);
/// While nothing is missing. Reading every manifest is no small thing.
const QUIET: Duration = Duration::from_secs(60 * 60);
/// What is said again no sooner.
const SAY_AGAIN: Duration = Duration::from_secs(10 * 60);

/// Looks for missing blobs.
#[derive(Debug)]
pub(crate) struct Refill {
    app: App,
    said_at: Option<Instant>,
}

impl Refill {
    pub(crate) fn new(app: App) -> Self {
        Self { app, said_at: None }
    }

    fn say(&mut self, before: usize, missing: usize) {
        let now = self.app.instant();
        if missing == 0 {
            if before > 0 {
                tracing::info!("edges gave back every blob that was missing");
            }
            self.said_at = None;
            return;
        }
        let is_said = |at| now.saturating_duration_since(at) < SAY_AGAIN;
        if !self.said_at.is_some_and(is_said) {
            self.said_at = Some(now);
            tracing::warn!(missing, "{missing} blobs of releases are missing; edges are asked");
        }
    }
}

/// Every blob that a release needs and that is not here.
fn missing_of(store: &BlobStore, row: &ReleaseRow, missing: &mut BTreeSet<Digest>) {
    let mut want = |digest: Digest| {
        let is_missing = store.stat(&digest).is_none();
        if is_missing {
            missing.insert(digest);
        }
        !is_missing
    };
    want(row.rules);
    if want(row.manifest)
        && let Some(manifest) = document(store, &row.manifest, Manifest::parse)
    {
        for entry in manifest.entries() {
            want(entry.digest);
        }
    }
    if let Some(index) = row.variants
        && want(index)
        && let Some(index) = document(store, &index, VariantIndex::parse)
    {
        for variant in index.variants() {
            want(variant.digest);
        }
    }
}

/// How much releases hold that were taken over without their manifests, as far as these are here now.
fn count(store: &BlobStore, rows: &[ReleaseRow]) -> Vec<Counted> {
    let uncounted = rows
        .iter()
        .filter(|row| row.files_total == 0 && row.needs_blobs() && row.finalized_at.is_some());
    let counted = uncounted.filter_map(|row| {
        let manifest = document(store, &row.manifest, Manifest::parse)?;
        Some(Counted {
            release: row.id.clone(),
            files_total: manifest.entries().len() as u64,
            bytes_total: manifest.entries().iter().map(|entry| entry.size_bytes).sum(),
        })
    });
    // A manifest without files is none that was ever pushed: it stays at 0.
    counted.filter(|counted| counted.files_total > 0).collect()
}

fn document<T, E>(
    store: &BlobStore,
    digest: &Digest,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Option<T> {
    parse(&store.read(digest).ok()?).ok()
}

impl Reconcile for Refill {
    const NAME: &'static str = "refill";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let rows = self.app.store().all_releases().await?;
        // Only documents have to be here to be read; the rest is as well in the bucket.
        let live = rows.iter().filter(|row| row.needs_blobs() && row.finalized_at.is_some());
        let documents: Vec<Digest> =
            live.flat_map(|row| [Some(row.manifest), row.variants]).flatten().collect();
        self.app.blobs().fetch(&documents).await?;
        let store = self.app.blobs().store().clone();
        let (mut missing, counted) = blocking(move || {
            let mut missing = BTreeSet::new();
            // One that is being uploaded is asked of whoever uploads it.
            let is_whole = |row: &&ReleaseRow| row.needs_blobs() && row.finalized_at.is_some();
            for row in rows.iter().filter(is_whole) {
                missing_of(&store, row, &mut missing);
            }
            (missing, count(&store, &rows))
        })
        .await;
        if self.app.leader().is_leader() {
            self.app.count_files(&counted).await?;
        }
        if let Some(remote) = self.app.blobs().remote() {
            let absent: Vec<Digest> = missing.into_iter().collect();
            missing = remote.missing(&absent).await?.into_iter().collect();
        }
        let (before, after) = {
            let mut wanted = self.app.wanted();
            let before = wanted.len();
            wanted.replace(missing);
            (before, wanted.len())
        };
        self.say(before, after);
        Ok(match after {
            0 => QUIET,
            after if after < before || before == 0 => BUSY,
            _ => STUCK,
        })
    }
}
