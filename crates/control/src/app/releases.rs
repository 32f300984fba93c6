//! Finding, listing and deleting releases, and waiting for them.

use std::{collections::BTreeMap, time::Duration};

use nigh_proto::{
    MachineName, ReleaseId, SiteName,
    api::{EventKind, ReleaseState, ReleaseView},
};

use super::{App, AppError, Expected};
use crate::{
    fleet::presence::News,
    store::{Deed, ReleaseFilter, ReleaseRow},
};

/// The shortest end of an id that may stand for it.
const SUFFIX_MIN_BYTES: usize = 4;

impl App {
    /// The release that `text` stands for: a whole id, or an end of it that only one has.
    pub(crate) async fn require_release(
        &self,
        site: &SiteName,
        text: &str,
    ) -> Result<ReleaseRow, AppError> {
        self.require_site(site).await?;
        let unknown = || {
            let release = text.chars().take(40).collect();
            AppError::ReleaseUnknown { site: site.clone(), release }
        };
        if !is_suffix(text) {
            return Err(unknown());
        }
        let mut found = self.store().releases_by_suffix(site, text).await?;
        match found.len() {
            0 => Err(unknown()),
            1 => found.pop().ok_or_else(unknown),
            _ => Err(AppError::ReleaseAmbiguous(text.to_owned())),
        }
    }

    /// The active release, as it was committed last: who has just seen it go live finds it.
    pub(crate) async fn require_active(&self, site: &SiteName) -> Result<ReleaseRow, AppError> {
        let row = self.store().site(site).await?;
        match row.ok_or_else(|| AppError::SiteUnknown(site.clone()))?.active {
            Some(id) => self.require_release(site, id.as_str()).await,
            None => {
                let (site, release) = (site.clone(), "active".to_owned());
                Err(AppError::ReleaseUnknown { site, release })
            }
        }
    }

    pub(crate) async fn show_release(
        &self,
        site: &SiteName,
        id: &ReleaseId,
    ) -> Result<ReleaseView, AppError> {
        let row = self.require_release(site, id.as_str()).await?;
        self.release_view(&row).await
    }

    /// The release as soon as its progress is more than `after`, or after `wait`, or when control
    /// stops.
    pub(crate) async fn await_release(
        &self,
        site: &SiteName,
        id: &ReleaseId,
        after: u64,
        wait: Duration,
    ) -> Result<ReleaseView, AppError> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut rings = self.progress();
        self.board().goes_on_from(after, self.now());
        loop {
            rings.mark_unchanged();
            let view = self.show_release(site, id).await?;
            let is_over = self.stopping().is_cancelled() || tokio::time::Instant::now() >= deadline;
            if view.progress > after || is_over {
                return Ok(view);
            }
            // Whether it rang or the time is up, the next look decides.
            tokio::select! {
                _ = tokio::time::timeout_at(deadline, rings.changed()) => {}
                () = self.stopping().cancelled() => {}
            }
        }
    }

    /// A page of views, newest first.
    pub(crate) async fn list_releases(
        &self,
        site: &SiteName,
        filter: &ReleaseFilter,
        limit: u32,
    ) -> Result<Vec<ReleaseView>, AppError> {
        let rows = self.store().releases(site, filter, limit).await?;
        if rows.is_empty() {
            self.require_site(site).await?;
        }
        let mut views = Vec::with_capacity(rows.len());
        for row in &rows {
            views.push(self.release_view(row).await?);
        }
        Ok(views)
    }

    pub(crate) async fn delete_release(
        &self,
        row: &ReleaseRow,
        expected: &Expected,
    ) -> Result<(), AppError> {
        let mut tx = self.store().begin().await?;
        match tx.release(&row.id).await? {
            Some(now) if now.state == ReleaseState::Active => {
                return Err(AppError::ReleaseActive(now.id));
            }
            Some(now) => {
                expected.allow(now.state.label())?;
                tx.delete_release(&now.id).await?;
                self.record_release_as(&mut tx, EventKind::ReleaseDeleted, &now).await?;
            }
            None => return Ok(()),
        }
        tx.raise_revision().await?;
        tx.audit(self.now(), Deed::new("release.delete", &row.id).site(&row.site)).await?;
        tx.commit().await?;
        self.publish().await?;
        tracing::info!(
            site.name = %row.site, release.id = %row.id,
            "release {} of {} was deleted", row.id, row.site
        );
        Ok(())
    }

    /// Shows those who wait that these releases are over.
    pub(crate) fn note(&self, rows: &[ReleaseRow]) {
        let now = self.now();
        let mut board = self.board();
        for row in rows {
            self.metrics().release(row.state);
            board.observe(row, Vec::new(), now);
        }
    }

    /// Shows those who wait what is new of machines since this was called last.
    pub(crate) fn observe_progress(&self, news: &BTreeMap<MachineName, News>) {
        let (world, now, instant) = (self.world(), self.now(), self.instant());
        let has_changed = {
            let statuses = self.statuses();
            self.board().look(&world, &statuses, news, instant, now)
        };
        if has_changed {
            self.ring_progress();
        }
    }
}

/// Whether a text can be the end of an id. `LIKE` knows only `%` and `_` as special.
fn is_suffix(text: &str) -> bool {
    let is_id = text.strip_prefix("rel_").is_some_and(|digits| digits.len() == 26);
    let digits = if is_id { &text[4..] } else { text };
    (SUFFIX_MIN_BYTES..=26).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_an_id_stands_for_it() {
        let id = ReleaseId::new(1, [9; 10]);
        assert!(is_suffix(id.as_str()) && is_suffix(id.short()));
        for text in ["", "abc", "rel_", "%%%%", "____", "ABCDEF", "rel_rel_rel_rel_rel_rel_rel_re"]
        {
            assert!(!is_suffix(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_special_to_sql_stands_for_a_release(text in ".{0,40}") {
            if is_suffix(&text) {
                let digits = text.strip_prefix("rel_").unwrap_or(&text);
                prop_assert!(digits.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            }
        }
    }
}
