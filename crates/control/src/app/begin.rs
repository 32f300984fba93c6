//! How does a release begin?
//!
//! Its manifest and rules are checked and kept as blobs, and whoever pushes is told which blobs
//! are missing. From then on a collection leaves every blob of the manifest alone.

use std::sync::Arc;

use nigh_core::rules::lint;
use nigh_proto::{
    Digest, Host, Manifest, ReleaseId, SiteName, Timestamp,
    api::{NewPreview, NewRelease, ReleaseBegun, ReleaseState, SourceView},
    rules::{Notice, RuleSet},
};

use super::{App, AppError};
use crate::{
    blobs::blocking,
    random::random,
    store::{Deed, ReleaseRow},
};

/// The longest message of a release, in characters.
const MESSAGE_MAX: usize = 4096;
/// The longest name of a commit or a branch, in characters.
const SOURCE_MAX: usize = 1024;
/// Ten years: longer is a mistake.
const EXPIRES_MAX_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Whether a new release was begun.
#[derive(Debug)]
pub(crate) enum Begun {
    New(ReleaseBegun),
    /// The very same files and rules are active now.
    Unchanged(ReleaseBegun),
}

/// A manifest and rules that were checked, as the blobs that they become.
struct Checked {
    manifest: Manifest,
    manifest_text: Vec<u8>,
    rules_text: Vec<u8>,
    manifest_digest: Digest,
    rules_digest: Digest,
    warnings: Vec<Notice>,
}

impl App {
    pub(crate) async fn begin_release(
        &self,
        site: &SiteName,
        new: NewRelease,
        pushed_by: &str,
    ) -> Result<Begun, AppError> {
        self.refresh().await?;
        self.require_site(site).await?;
        self.push_goes_on();
        let NewRelease { manifest, rules, message, source, preview } = new;
        let message = message.map(|text| checked_text("message", text, MESSAGE_MAX)).transpose()?;
        let source = source.map(checked_source).transpose()?;
        let now = self.now();
        let id = ReleaseId::new(self.unix_ms(), random());
        let preview = preview.map(|preview| self.preview(site, &id, preview, now)).transpose()?;
        let checked = blocking(move || check(manifest, &rules)).await?;
        if preview.is_none()
            && let Some(begun) = self.unchanged(site, &checked).await?
        {
            return Ok(Begun::Unchanged(begun));
        }
        let Checked { manifest, manifest_text, rules_text, warnings, .. } = checked;
        let row = ReleaseRow {
            id,
            site: site.clone(),
            state: ReleaseState::Uploading,
            manifest: checked.manifest_digest,
            rules: checked.rules_digest,
            variants: self.live_variants(site),
            files_total: manifest.entries().len() as u64,
            bytes_total: manifest.total_bytes(),
            message,
            source,
            pushed_by: Some(pushed_by.to_owned()),
            created_at: now,
            finalized_at: None,
            staging_at: None,
            goes_live: false,
            activated_at: None,
            live_revision: None,
            grace_until: None,
            preview_host: preview.as_ref().map(|(host, _)| host.clone()),
            preview_expires_at: preview.map(|(_, expires)| expires),
            failure: None,
        };
        let missing = self.promise(&row, manifest, vec![manifest_text, rules_text]).await?;
        tracing::info!(
            site.name = %site,
            release.id = %row.id,
            files_total = row.files_total,
            blobs_missing = missing.len(),
            "release {} of {site} begins with {} blobs missing", row.id, missing.len(),
        );
        let release = self.release_view(&row).await?;
        Ok(Begun::New(ReleaseBegun { release, missing, warnings }))
    }

    /// Makes the release known, then says what it misses: a collection that settles what is live
    /// comes before both or after both.
    async fn promise(
        &self,
        row: &ReleaseRow,
        manifest: Manifest,
        documents: Vec<Vec<u8>>,
    ) -> Result<Vec<Digest>, AppError> {
        let _promise = self.blobs().promise().await;
        self.blobs().insert_promised(documents).await?;
        let mut tx = self.store().begin().await?;
        let Some(site) = tx.site(&row.site).await? else {
            return Err(AppError::SiteUnknown(row.site.clone()));
        };
        self.check_quota(&site, row)?;
        self.check_releases(&site, tx.releases_total(&row.site).await?)?;
        tx.insert_release(row).await?;
        self.record_release(&mut tx, row).await?;
        let deed = Deed::new("release.begin", &row.id)
            .site(&row.site)
            .detail("files_total", row.files_total)
            .detail("bytes_total", row.bytes_total);
        tx.audit(row.created_at, deed).await?;
        tx.commit().await?;
        self.ring_events().await?;
        self.metrics().release(row.state);
        let digests = manifest.entries().iter().map(|entry| entry.digest).collect();
        self.remember_begun(row.manifest, &Arc::new(manifest));
        Ok(self.blobs().missing(digests).await?)
    }

    /// The encoded forms of what is live now. A new release has most contents of the one before, and
    /// edges have their forms: so they count from the first visitor on, until the background pass
    /// has an index of the release's own.
    fn live_variants(&self, site: &SiteName) -> Option<Digest> {
        self.world().site(site)?.active_release()?.variants
    }

    /// The active release, when it has the same manifest and rules.
    async fn unchanged(
        &self,
        site: &SiteName,
        checked: &Checked,
    ) -> Result<Option<ReleaseBegun>, AppError> {
        let world = self.world();
        let Some(site) = world.site(site) else { return Ok(None) };
        let is_same = |row: &&ReleaseRow| {
            row.manifest == checked.manifest_digest && row.rules == checked.rules_digest
        };
        let Some(active) = site.active_release().filter(is_same) else { return Ok(None) };
        // Pushing again is how a blob that control has lost is brought back.
        let blobs = checked.manifest.entries().iter().map(|entry| entry.digest);
        let documents = [checked.manifest_digest, checked.rules_digest];
        if !self.blobs().missing(blobs.chain(documents).collect()).await?.is_empty() {
            return Ok(None);
        }
        // A later release that is on its way would replace it: then this push must count.
        if site.releases.iter().any(|row| row.state == ReleaseState::Staging && row.goes_live) {
            return Ok(None);
        }
        let release = self.release_view(active).await?;
        let warnings = checked.warnings.clone();
        Ok(Some(ReleaseBegun { release, missing: Vec::new(), warnings }))
    }

    /// The host of a preview, and when it expires.
    fn preview(
        &self,
        site: &SiteName,
        id: &ReleaseId,
        preview: NewPreview,
        now: Timestamp,
    ) -> Result<(Host, Timestamp), AppError> {
        let sites = &self.effective().config.sites;
        let expires_ms = preview.expires_ms.unwrap_or(sites.preview_expires_ms);
        let expires_at = now.plus_ms(checked_duration("preview.expires_ms", expires_ms)?);
        let name = preview.name.as_ref().map_or(id.short(), |name| name.as_str());
        let host = format!("{name}--{site}.{}", sites.preview_domain());
        match (host.parse(), preview.name) {
            (Ok(host), _) => Ok((host, expires_at)),
            (Err(_), Some(name)) => Err(AppError::PreviewTooLong(name)),
            (Err(_), None) => {
                Err(AppError::Text { field: "preview", length: host.len(), max: 253 })
            }
        }
    }
}

fn check(manifest_text: String, rules: &RuleSet) -> Result<Checked, AppError> {
    let manifest = Manifest::parse(manifest_text.as_bytes()).map_err(AppError::Manifest)?;
    if manifest.entries().is_empty() {
        return Err(AppError::ManifestEmpty);
    }
    rules.check().map_err(AppError::Rules)?;
    let warnings = lint(rules, Some(&manifest));
    let (manifest_text, rules_text) = (manifest_text.into_bytes(), rules.encode());
    Ok(Checked {
        manifest_digest: Digest::of(&manifest_text),
        rules_digest: Digest::of(&rules_text),
        manifest,
        manifest_text,
        rules_text,
        warnings,
    })
}

/// Text for people, of several lines perhaps.
fn checked_text(field: &'static str, text: String, max: usize) -> Result<String, AppError> {
    let is_strange = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    let length = text.chars().count();
    if !(1..=max).contains(&length) || text.contains(is_strange) {
        return Err(AppError::Text { field, length, max });
    }
    Ok(text)
}

fn checked_source(source: SourceView) -> Result<SourceView, AppError> {
    let SourceView { commit, branch, is_dirty } = source;
    let checked = |field, text: Option<String>| {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| checked_text(field, text, SOURCE_MAX)).transpose()
    };
    let commit = checked("source.commit", commit)?;
    Ok(SourceView { commit, branch: checked("source.branch", branch)?, is_dirty })
}

/// A duration that somebody asked for, when it is one that could be meant.
pub(super) fn checked_duration(field: &'static str, ms: u64) -> Result<i64, AppError> {
    match i64::try_from(ms) {
        Ok(duration) if (1..=EXPIRES_MAX_MS).contains(&ms) => Ok(duration),
        _ => Err(AppError::Duration { field, ms }),
    }
}
