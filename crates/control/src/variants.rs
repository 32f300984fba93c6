//! Which encoded forms does a content have, and when are they made?
//!
//! After a release is live, in the background, once per content ever: `encode` makes them, the
//! database remembers what came of it, also that it was not worth it. The pass stops at every
//! content while somebody pushes. What is new is stored in batches, and a release's index of
//! variants is replaced, with the revision, at most once in
//! [`INDEX_WAIT`] and each time with half as much again, since machines fetch the index as a whole.

mod encode;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use nigh_core::{
    blob::{InsertError, ReadError},
    http::media,
};
use nigh_proto::{
    Digest, Manifest, ReleaseId,
    api::ReleaseState,
    variants::{ContentCoding, Variant, VariantIndex},
};

use crate::{
    app::{App, AppError},
    blobs::BlobError,
    controls::Leader,
    fleet::World,
    reconcile::Reconcile,
    store::{ReleaseRow, VariantRow},
};
use encode::{Effort, Encoded, Pool};

/// Smaller contents gain nothing.
const CONTENT_MIN_BYTES: u64 = 256;
/// Larger ones would take memory and minutes.
const CONTENT_MAX_BYTES: u64 = 32 << 20;
/// Indexes are replaced, and the revision raised, at most so often.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// A batch of variants is stored when it holds this much, or so many.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ROWS: usize = 3000;
/// How soon after a push, or a pass, there is another look.
const WAIT: Duration = Duration::from_secs(2);

/// Makes what is missing.
#[derive(Debug)]
pub(crate) struct Variants {
    app: App,
    pool: Pool,
    threads: usize,
    /// Releases that have everything, with the index that they had then.
    done: HashSet<(ReleaseId, Effort)>,
}

/// One content of a release that is worth a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    digest: Digest,
    size_bytes: u64,
}

/// Variants that are made and not stored yet.
#[derive(Debug, Default)]
struct Batch {
    rows: Vec<VariantRow>,
    blobs: Vec<Vec<u8>>,
    bytes: usize,
}

impl Variants {
    pub(crate) fn new(app: App, threads: usize) -> Self {
        Self { app, pool: Pool::new(threads), threads, done: HashSet::new() }
    }

    /// Makes what `release` lacks at `effort`. `false` when a push interrupted it.
    async fn release(&self, release: &ReleaseRow, effort: Effort) -> Result<bool, AppError> {
        let manifest = self.app.manifest(release.manifest).await?;
        let contents = candidates(&manifest);
        drop(manifest);
        let mut index = Index::default();
        let mut batch = Batch::default();
        let mut is_whole = true;
        // What is shown half-way must not take away what an earlier pass has shown.
        let is_first = release.variants.is_none();
        let (mut shown_at, mut shown) = (Instant::now(), 0);
        for chunk in contents.chunks(self.threads) {
            if self.app.is_pushing() || self.app.stopping().is_cancelled() {
                is_whole = false;
                break;
            }
            for content in chunk {
                self.content(content, effort, &mut index, &mut batch).await?;
            }
            if batch.bytes >= BATCH_BYTES || batch.rows.len() >= BATCH_ROWS {
                self.store(&mut batch).await?;
            }
            let has_grown = index.0.len() > shown + shown / 2;
            if is_first && has_grown && shown_at.elapsed() >= INDEX_WAIT {
                self.store(&mut batch).await?;
                self.show(release, &index).await?;
                (shown_at, shown) = (Instant::now(), index.0.len());
            }
        }
        self.store(&mut batch).await?;
        if is_whole {
            self.show(release, &index).await?;
        }
        Ok(is_whole)
    }

    /// What there is of one content, with what is made now.
    async fn content(
        &self,
        content: &Content,
        effort: Effort,
        index: &mut Index,
        batch: &mut Batch,
    ) -> Result<(), AppError> {
        let known = self.app.store().variants_of(&content.digest).await?;
        let forms: Vec<Digest> = known.iter().filter_map(|row| row.digest).collect();
        let kept = self.app.blobs().sizes(&forms).await?;
        let is_kept =
            |row: &&VariantRow| row.digest.is_none_or(|digest| kept.contains_key(&digest));
        let known: Vec<VariantRow> = known.iter().filter(is_kept).copied().collect();
        index.extend(&known);
        let wanted: Vec<(ContentCoding, u32)> = ContentCoding::ALL
            .into_iter()
            .filter_map(|coding| Some((coding, effort.of(coding, content.size_bytes)?)))
            .filter(|(coding, quality)| {
                !known.iter().any(|row| row.coding == *coding && row.effort >= *quality)
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let raw = match self.app.blobs().read(content.digest, CONTENT_MAX_BYTES).await {
            Ok(raw) => raw,
            // It was deleted, or is damaged: edges have their own copies, so only log it.
            Err(BlobError::Read(
                error @ (ReadError::Missing { .. } | ReadError::Corrupt { .. }),
            )) => {
                tracing::warn!(%error, "a content was not encoded");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let encoded = self.pool.encode(raw, wanted).await;
        for Encoded { coding, effort, bytes } in encoded {
            let before = known.iter().find(|row| row.coding == coding);
            let row = batch.add(content.digest, coding, effort, bytes, before);
            index.extend(&[row]);
        }
        self.app.metrics().variants.inc();
        Ok(())
    }

    /// Stores a batch; the rows follow the blobs, so a row never names a blob that is not there.
    async fn store(&self, batch: &mut Batch) -> Result<(), AppError> {
        let Batch { rows, blobs, .. } = std::mem::take(batch);
        if rows.is_empty() {
            return Ok(());
        }
        self.app.blobs().insert_documents(blobs).await?;
        let mut tx = self.app.store().begin().await?;
        for row in &rows {
            tx.put_variant(row).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Attaches the index to the release, if it says anything new.
    async fn show(&self, release: &ReleaseRow, index: &Index) -> Result<(), AppError> {
        let text = index.encode();
        let world = self.app.world();
        let current = world.site(&release.site).and_then(|site| site.release(&release.id));
        let Some(current) = current else { return Ok(()) };
        let digest = Digest::of(text.as_bytes());
        if index.0.is_empty() || current.variants == Some(digest) {
            return Ok(());
        }
        self.app.blobs().insert_documents(vec![text.into_bytes()]).await?;
        let mut tx = self.app.store().begin().await?;
        if tx.set_variants(&release.id, digest).await? {
            tx.raise_revision().await?;
            tx.commit().await?;
            self.app.publish().await?;
            tracing::debug!(
                site.name = %release.site, release.id = %release.id, variants_total = index.0.len(),
                "{} variants of {} are ready", index.0.len(), release.id
            );
        }
        Ok(())
    }
}

impl Batch {
    /// Adds what encoding gave; a form that is no smaller than the one before is not kept.
    fn add(
        &mut self,
        content: Digest,
        coding: ContentCoding,
        effort: u32,
        bytes: Option<Vec<u8>>,
        before: Option<&VariantRow>,
    ) -> VariantRow {
        let smaller = bytes.filter(|bytes| {
            let best = before.filter(|row| row.digest.is_some()).map(|row| row.size_bytes);
            best.is_none_or(|best| (bytes.len() as u64) < best)
        });
        let row = match (smaller, before) {
            (Some(bytes), _) => {
                let (digest, size_bytes) = (Some(Digest::of(&bytes)), bytes.len() as u64);
                self.bytes += bytes.len();
                self.blobs.push(bytes);
                VariantRow { content, coding, effort, digest, size_bytes }
            }
            (None, Some(before)) => VariantRow { effort, ..*before },
            (None, None) => VariantRow { content, coding, effort, digest: None, size_bytes: 0 },
        };
        self.rows.push(row);
        row
    }
}

/// The variants of one release so far; each content is added once, so it needs no look-up.
#[derive(Debug, Default)]
struct Index(Vec<Variant>);

impl Index {
    fn extend(&mut self, rows: &[VariantRow]) {
        self.0.extend(rows.iter().filter_map(|row| {
            let VariantRow { content: of, coding, digest, size_bytes, .. } = *row;
            Some(Variant { of, coding, digest: digest?, size_bytes })
        }));
    }

    fn encode(&self) -> String {
        VariantIndex::new(self.0.clone()).encode()
    }
}

/// The distinct contents of a release that are worth encoding, in the order of their paths.
fn candidates(manifest: &Manifest) -> Vec<Content> {
    let mut seen = HashSet::new();
    manifest
        .entries()
        .iter()
        .filter(|entry| (CONTENT_MIN_BYTES..=CONTENT_MAX_BYTES).contains(&entry.size_bytes))
        .filter(|entry| {
            let by_path = || media::by_path(entry.path.as_str());
            media::is_compressible(entry.content_type.as_deref().unwrap_or_else(by_path))
        })
        .filter(|entry| seen.insert(entry.digest))
        .map(|entry| Content { digest: entry.digest, size_bytes: entry.size_bytes })
        .collect()
}

/// Releases that visitors see, in the order in which they get variants: quick ones for all first.
fn queue(world: &World) -> Vec<(ReleaseRow, Effort)> {
    let is_seen =
        |row: &&ReleaseRow| matches!(row.state, ReleaseState::Active | ReleaseState::Preview);
    let seen = || world.sites.iter().flat_map(|site| site.releases.iter().filter(is_seen));
    [Effort::Quick, Effort::Best]
        .into_iter()
        .flat_map(|effort| seen().map(move |row| (row.clone(), effort)))
        .collect()
}

impl Reconcile for Variants {
    const NAME: &'static str = "variants";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.app.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let queue = queue(&self.app.world());
        self.done.retain(|(id, _)| queue.iter().any(|(row, _)| row.id == *id));
        for (release, effort) in queue {
            if self.app.is_pushing() || self.app.stopping().is_cancelled() {
                break;
            }
            let key = (release.id.clone(), effort);
            if self.done.contains(&key) {
                continue;
            }
            match self.release(&release, effort).await {
                Ok(true) => _ = self.done.insert(key),
                Ok(false) => break,
                // A full disk is no reason to try every two seconds and fill the log.
                Err(AppError::Insert(InsertError::Full { .. })) => {
                    return Ok(Duration::from_secs(60));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(WAIT)
    }
}

#[cfg(test)]
mod tests {
    use nigh_proto::Entry;

    use super::*;

    #[test]
    fn only_contents_that_can_shrink_are_encoded_and_each_once() {
        let entry = |path: &str, content: &str, size_bytes| Entry {
            path: path.parse().unwrap(),
            digest: Digest::of(content.as_bytes()),
            size_bytes,
            content_type: None,
        };
        let manifest = Manifest::new(vec![
            entry("a.html", "page", 1000),
            entry("b.html", "page", 1000),
            entry("c.png", "image", 1000),
            entry("d.html", "tiny", 255),
            entry("e.css", "huge", CONTENT_MAX_BYTES + 1),
        ])
        .unwrap();
        let page = Content { digest: Digest::of(b"page"), size_bytes: 1000 };
        assert_eq!(candidates(&manifest), [page]);
    }

    #[test]
    fn a_better_effort_replaces_a_variant_only_when_it_is_smaller() {
        let content = Digest::of(b"page");
        let mut batch = Batch::default();
        let first = batch.add(content, ContentCoding::Br, 5, Some(vec![0; 100]), None);
        let larger = batch.add(content, ContentCoding::Br, 11, Some(vec![0; 100]), Some(&first));
        assert_eq!((larger.digest, larger.effort), (first.digest, 11));
        let smaller = batch.add(content, ContentCoding::Br, 11, Some(vec![0; 99]), Some(&first));
        assert_eq!(smaller.size_bytes, 99);
        let worthless = batch.add(content, ContentCoding::Gzip, 9, None, None);
        assert_eq!((worthless.digest, worthless.effort), (None, 9));
    }
}
