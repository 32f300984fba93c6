//! What is over: previews, abandoned uploads, graces, and releases beyond those that are kept?

use std::{collections::BTreeMap, time::Duration};

use nigh_proto::{
    SiteName, Timestamp,
    api::{EventKind, ReleaseState},
};

use super::{Leader, Reconcile};
use crate::{
    app::{App, AppError, surplus},
    request::Actor,
    store::{Deed, ReleaseRow},
};

/// Previews end on edges by themselves, so this only has to be soon.
const WAIT: Duration = Duration::from_secs(10);

/// How long a join token that has expired is known as such, to whoever still comes with it.
const JOIN_TOKEN_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// Ends what is over.
#[derive(Debug)]
pub(crate) struct Expiry(pub(crate) App);

impl Reconcile for Expiry {
    const NAME: &'static str = "expiry";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.0.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let rows = self.0.store().all_releases().await?;
        self.end(rows).await?;
        Ok(WAIT)
    }
}

impl Expiry {
    /// Ends what is over among `rows`, which are all releases as they were a moment ago.
    async fn end(&self, rows: Vec<ReleaseRow>) -> Result<(), AppError> {
        let app = &self.0;
        let now = app.now();
        let sites = app.effective().config.sites.clone();
        let ended: Vec<ReleaseRow> =
            rows.iter().filter_map(|row| expire(row, now, sites.upload_expires_ms)).collect();
        let pruned = unkept(rows, sites.keep_releases as usize, now);
        let mut tx = app.begin_leading().await?;
        tx.expire_join_tokens(now.plus_ms(-JOIN_TOKEN_KEPT_MS)).await?;
        let mut noted = Vec::new();
        for row in ended {
            // It may have gone on since it was looked at.
            let current = tx.release(&row.id).await?;
            if let Some(row) = current.and_then(|row| expire(&row, now, sites.upload_expires_ms)) {
                tx.update_release(&row).await?;
                if row.state == ReleaseState::Expired {
                    app.record_release(&mut tx, &row).await?;
                }
                tracing::info!(
                    site.name = %row.site, release.id = %row.id,
                    "release {} of {} is {}", row.id, row.site, row.state.label()
                );
                noted.push(row);
            }
        }
        let mut has_changed = !noted.is_empty();
        let mut gone = Vec::new();
        for row in &pruned {
            // It may be live again since it was looked at.
            if tx.release(&row.id).await?.as_ref() == Some(row) {
                tx.delete_release(&row.id).await?;
                app.record_release_as(&mut tx, EventKind::ReleaseDeleted, row).await?;
                has_changed = true;
                gone.push(row);
            }
        }
        for row in &noted {
            let deed = Deed::new("release.end", &row.id)
                .site(&row.site)
                .detail("state", row.state.label());
            tx.audit_by(Actor::control(), now, deed).await?;
        }
        for row in &gone {
            let deed = Deed::new("release.delete", &row.id).site(&row.site);
            tx.audit_by(Actor::control(), now, deed).await?;
        }
        if has_changed {
            tx.raise_revision().await?;
        }
        tx.commit().await?;
        if has_changed {
            app.note(&noted);
            app.publish().await?;
        }
        Ok(())
    }
}

/// The release as it is after what is over has ended; `None` when nothing is.
fn expire(row: &ReleaseRow, now: Timestamp, upload_expires_ms: u64) -> Option<ReleaseRow> {
    let mut row = row.clone();
    let is_past = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
    match row.state {
        ReleaseState::Uploading => {
            let age_ms = now.ms_since(row.created_at);
            if u64::try_from(age_ms).unwrap_or(0) < upload_expires_ms {
                return None;
            }
            row.failure = Some("its upload was abandoned".to_owned());
            row.state = ReleaseState::Expired;
        }
        ReleaseState::Preview if is_past(row.preview_expires_at) => {
            row.state = ReleaseState::Expired;
            row.failure = Some("its preview has expired".to_owned());
        }
        ReleaseState::Active if row.preview_host.is_some() && is_past(row.preview_expires_at) => {
            row.preview_host = None;
        }
        ReleaseState::Superseded if is_past(row.grace_until) => row.grace_until = None,
        _ => return None,
    }
    Some(row)
}

/// Releases that are not kept: beyond the newest `keep` of their site, and past their grace. The
/// one that rollback goes to always stays. `rows` are all releases, oldest first.
fn unkept(rows: Vec<ReleaseRow>, keep: usize, now: Timestamp) -> Vec<ReleaseRow> {
    let mut sites: BTreeMap<SiteName, Vec<ReleaseRow>> = BTreeMap::new();
    for row in rows.into_iter().rev() {
        sites.entry(row.site.clone()).or_default().push(row);
    }
    let unkept = sites.into_values().flat_map(|rows| {
        let previous = rows
            .iter()
            .filter(|row| row.state == ReleaseState::Superseded)
            .max_by_key(|row| (row.activated_at, row.id.clone()))
            .map(|row| row.id.clone());
        let unkept = surplus(&rows, keep)
            .filter(|row| row.state != ReleaseState::Staged)
            .filter(|row| row.grace_until.is_none_or(|until| until <= now))
            .filter(|row| previous.as_ref() != Some(&row.id));
        unkept.cloned().collect::<Vec<_>>()
    });
    unkept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::{
            Expected,
            fixture::{Fixture, docs},
        },
        fleet::fixture::{release, release_row},
        reconcile::progress::Progress,
    };

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms)
    }

    #[test]
    fn previews_uploads_and_graces_end_in_time() {
        let preview = ReleaseRow {
            preview_host: Some("a--docs.nigh.test".parse().unwrap()),
            preview_expires_at: Some(at(100)),
            ..release_row(1, ReleaseState::Preview)
        };
        let promoted = ReleaseRow { state: ReleaseState::Active, ..preview.clone() };
        let grace =
            ReleaseRow { grace_until: Some(at(100)), ..release_row(1, ReleaseState::Superseded) };
        let upload = release_row(1, ReleaseState::Uploading);
        for row in [preview.clone(), promoted.clone(), grace.clone(), upload.clone()] {
            assert_eq!(expire(&row, at(99), 100), None, "{row:?}");
        }
        let ended = |row: &ReleaseRow| expire(row, at(100), 100).unwrap();
        assert_eq!(ended(&preview).state, ReleaseState::Expired);
        assert_eq!(ended(&promoted).state, ReleaseState::Active);
        assert_eq!(ended(&promoted).preview_host, None);
        assert_eq!(ended(&grace).grace_until, None);
        assert_eq!(ended(&upload).state, ReleaseState::Expired);
    }

    #[tokio::test]
    async fn a_release_that_is_live_again_is_not_deleted_as_one_too_many() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let mut progress = Progress::new(app.clone());
        let mut ids = Vec::new();
        for page in ["one", "two", "three"] {
            ids.push(fixture.push(page).await.id);
            progress.pass().await.unwrap();
        }
        let mut config = app.effective().config.clone();
        config.sites.keep_releases = 1;
        app.reload(crate::app::Effective::new(config).unwrap()).await.unwrap();
        fixture.hand.advance(Duration::from_millis(app.effective().config.sites.grace_ms));
        let seen = app.store().all_releases().await.unwrap();
        app.activate(&docs(), &ids[0], &Expected::Anything).await.unwrap();
        Expiry(app.clone()).end(seen).await.unwrap();
        assert_eq!(app.world().site(&docs()).unwrap().active_release().unwrap().id, ids[0]);
    }

    #[test]
    fn a_release_in_its_grace_and_the_one_before_are_kept_however_many_there_are() {
        let superseded = |number: u64, grace_until: Option<i64>| ReleaseRow {
            activated_at: Some(at(i64::try_from(number).unwrap())),
            grace_until: grace_until.map(at),
            ..release_row(number, ReleaseState::Superseded)
        };
        let rows = vec![
            superseded(1, None),
            superseded(2, Some(200)),
            superseded(3, None),
            release_row(4, ReleaseState::Active),
            release_row(5, ReleaseState::Expired),
        ];
        let gone: Vec<_> = unkept(rows, 1, at(100)).into_iter().map(|row| row.id).collect();
        assert_eq!(gone, [release(1)]);
    }
}
