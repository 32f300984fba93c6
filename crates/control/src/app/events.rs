//! What happened, who is told of it, and from where on?

use std::time::Duration;

use nigh_proto::{
    MachineName, SiteName,
    api::{EventKind, EventView, ReleaseState},
};
use serde_json::{Value, json};

use super::{App, AppError};
use crate::store::{Reading, ReleaseRow, StoreError, Tx};

/// Events read from the database at a time.
const BATCH: u32 = 500;
/// Events that one look goes through at most, for a filter that few of them pass.
const LOOK_MAX: usize = 5_000;

/// Which events somebody wants, and may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventFilter {
    /// Of these sites; `None`: of all, and of the fleet.
    pub sites: Option<Vec<SiteName>>,
    /// Of these kinds; empty: of all.
    pub kinds: Vec<EventKind>,
}

impl EventFilter {
    pub(crate) fn passes(&self, event: &EventView) -> bool {
        let is_site = match (&self.sites, &event.site) {
            (None, _) => true,
            (Some(sites), Some(site)) => sites.contains(site),
            (Some(_), None) => false,
        };
        is_site && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }

    /// The one site that the database may look for.
    fn only_site(&self) -> Option<&SiteName> {
        match self.sites.as_deref() {
            Some([site]) => Some(site),
            _ => None,
        }
    }
}

/// A look at the events behind a point.
#[derive(Debug)]
pub(crate) struct Look {
    pub events: Vec<EventView>,
    /// Everything up to here was looked at.
    pub seen: u64,
    /// Whether that is all there is.
    pub is_end: bool,
}

impl App {
    /// At most `limit` events after `after` that pass, oldest first.
    pub(crate) async fn events_after(
        &self,
        filter: &EventFilter,
        after: u64,
        limit: usize,
    ) -> Result<Look, AppError> {
        let log = self.store().event_log().await?;
        // A point that was never given out comes from before a backup was restored.
        if after > log.last {
            return Err(AppError::EventsAhead { after, last: log.last });
        }
        if after != 0 && after < log.pruned {
            return Err(AppError::EventsGone { after, first: log.pruned + 1 });
        }
        let mut look = Look { events: Vec::new(), seen: after, is_end: false };
        for _ in 0..LOOK_MAX / BATCH as usize {
            let reading = Reading::After(look.seen);
            let rows = self.store().events(reading, filter.only_site(), BATCH).await?;
            let is_last = rows.len() < BATCH as usize;
            for row in rows {
                if look.events.len() == limit {
                    return Ok(look);
                }
                look.seen = row.id;
                if filter.passes(&row) {
                    look.events.push(row);
                }
            }
            if is_last {
                // What was committed meanwhile is seen by the next look.
                look.seen = look.seen.max(log.last);
                look.is_end = true;
                break;
            }
        }
        Ok(look)
    }

    /// The newest events that pass, at most `limit`, oldest first.
    pub(crate) async fn newest_events(
        &self,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Look, AppError> {
        let seen = self.store().event_log().await?.last;
        let mut events = Vec::new();
        let mut before = seen + 1;
        for _ in 0..LOOK_MAX / BATCH as usize {
            let reading = Reading::Before(before);
            let rows = self.store().events(reading, filter.only_site(), BATCH).await?;
            let Some(last) = rows.last() else { break };
            before = last.id;
            events.extend(rows.into_iter().filter(|row| filter.passes(row)));
            if events.len() >= limit {
                break;
            }
        }
        events.truncate(limit);
        events.reverse();
        Ok(Look { events, seen, is_end: true })
    }

    /// What [`events_after`](Self::events_after) gives, as soon as it is not empty, or after `wait`.
    pub(crate) async fn await_events(
        &self,
        filter: &EventFilter,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Look, AppError> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut rings = self.follow_events();
        loop {
            rings.mark_unchanged();
            let look = self.events_after(filter, after, limit).await?;
            let is_over = self.stopping().is_cancelled() || tokio::time::Instant::now() >= deadline;
            if !look.events.is_empty() || !look.is_end || is_over {
                return Ok(look);
            }
            tokio::select! {
                _ = tokio::time::timeout_at(deadline, rings.changed()) => {}
                () = self.stopping().cancelled() => {}
            }
        }
    }

    /// One event, while it is kept.
    pub(crate) async fn event(&self, id: u64) -> Result<Option<EventView>, StoreError> {
        let reading = Reading::After(id.saturating_sub(1));
        let rows = self.store().events(reading, None, 1).await?;
        Ok(rows.into_iter().find(|event| event.id == id))
    }

    /// Wakes those who follow the events, when there are newer ones than they know of.
    pub(crate) async fn ring_events(&self) -> Result<(), StoreError> {
        let last = self.store().event_log().await?.last;
        self.0.events.send_if_modified(|known| {
            let is_news = last != *known;
            *known = last;
            is_news
        });
        self.ring_webhooks();
        Ok(())
    }

    /// Follows the number of the newest event.
    pub(crate) fn follow_events(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.events.subscribe()
    }

    /// Writes down that something happens to a site, or to the fleet.
    pub(super) async fn record(
        &self,
        tx: &mut Tx,
        kind: EventKind,
        site: Option<&SiteName>,
        subject: &str,
        data: Value,
    ) -> Result<(), StoreError> {
        tx.record(self.now(), kind, site, subject, data).await
    }

    /// Writes down that an edge begins or ceases to lag behind a site.
    pub(crate) async fn record_lagging(
        &self,
        tx: &mut Tx,
        site: &SiteName,
        edge: &MachineName,
        is_lagging: bool,
    ) -> Result<(), StoreError> {
        let kind = if is_lagging { EventKind::EdgeLagging } else { EventKind::EdgeCaughtUp };
        self.record(tx, kind, Some(site), edge.as_str(), json!({})).await
    }

    /// Writes down what has become of a release, if anybody would want to know.
    pub(crate) async fn record_release(
        &self,
        tx: &mut Tx,
        row: &ReleaseRow,
    ) -> Result<(), StoreError> {
        let kind = match row.state {
            ReleaseState::Uploading => EventKind::ReleaseCreated,
            ReleaseState::Staging => EventKind::ReleaseFinalized,
            ReleaseState::Staged => EventKind::ReleaseStaged,
            ReleaseState::Active => EventKind::ReleaseActive,
            ReleaseState::Preview => EventKind::ReleasePreview,
            ReleaseState::Expired => EventKind::ReleaseExpired,
            ReleaseState::Failed => EventKind::ReleaseFailed,
            // Another one is active, and that is told.
            ReleaseState::Superseded => return Ok(()),
        };
        self.record_release_as(tx, kind, row).await
    }

    /// Writes down something about a release.
    pub(crate) async fn record_release_as(
        &self,
        tx: &mut Tx,
        kind: EventKind,
        row: &ReleaseRow,
    ) -> Result<(), StoreError> {
        let mut data = json!({ "files_total": row.files_total, "bytes_total": row.bytes_total });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                data[name] = value;
            }
        };
        put("message", row.message.clone().map(Value::from));
        put("pushed_by", row.pushed_by.clone().map(Value::from));
        put("preview_host", row.preview_host.as_ref().map(|host| host.as_str().into()));
        put("reason", row.failure.clone().map(Value::from));
        self.record(tx, kind, Some(&row.site), row.id.as_str(), data).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::app::fixture::{Fixture, docs};

    fn kinds(look: &Look) -> Vec<EventKind> {
        look.events.iter().map(|event| event.kind).collect()
    }

    #[tokio::test]
    async fn what_happens_is_told_in_order_and_can_be_resumed_anywhere() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let all = EventFilter::default();
        let release = fixture.push("one").await;
        let look = app.events_after(&all, 0, 100).await.unwrap();
        let expected = [
            EventKind::SiteCreated,
            EventKind::CertificateIssued,
            EventKind::ReleaseCreated,
            EventKind::ReleaseFinalized,
        ];
        assert_eq!(kinds(&look), expected);
        assert_eq!(look.events[3].subject, release.id.as_str());
        assert!(look.is_end);
        for skipped in 0..4 {
            let rest = app.events_after(&all, skipped, 100).await.unwrap();
            assert_eq!(kinds(&rest), expected[skipped as usize..]);
            let one = app.events_after(&all, skipped, 1).await.unwrap();
            assert_eq!((one.events.len(), one.seen), (1, skipped + 1));
        }
        assert_eq!(kinds(&app.newest_events(&all, 1).await.unwrap()), expected[3..]);
    }

    #[tokio::test]
    async fn a_point_that_was_pruned_or_never_was_is_refused() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let all = EventFilter::default();
        fixture.push("one").await;
        let mut tx = app.store().begin().await.unwrap();
        tx.prune_events(2).await.unwrap();
        tx.commit().await.unwrap();
        assert!(matches!(
            app.events_after(&all, 1, 9).await,
            Err(AppError::EventsGone { after: 1, first: 3 })
        ));
        assert!(matches!(
            app.events_after(&all, 5, 9).await,
            Err(AppError::EventsAhead { after: 5, last: 4 })
        ));
        assert_eq!(app.events_after(&all, 2, 9).await.unwrap().events.len(), 2);
        assert_eq!(app.events_after(&all, 0, 9).await.unwrap().events[0].id, 3);
    }

    #[tokio::test]
    async fn what_was_not_committed_leaves_no_gap() {
        let fixture = Fixture::new().await;
        let app = &fixture.app;
        let before = app.store().event_log().await.unwrap().last;
        let mut tx = app.store().begin().await.unwrap();
        let kind = EventKind::HostAdded;
        app.record(&mut tx, kind, Some(&docs()), "a.example", json!({})).await.unwrap();
        drop(tx);
        fixture.push("one").await;
        let look = app.events_after(&EventFilter::default(), before, 9).await.unwrap();
        assert_eq!(look.events[0].id, before + 1);
        assert!(look.events.iter().all(|event| event.kind != kind));
    }

    proptest! {
        #[test]
        fn a_filter_for_sites_lets_nothing_else_through(
            sites in proptest::collection::vec("[a-c]", 0..3),
            site in proptest::option::of("[a-c]"),
        ) {
            let event = EventView {
                id: 1,
                at: nigh_proto::Timestamp::default(),
                kind: EventKind::SiteCreated,
                site: site.as_ref().map(|site| site.parse().unwrap()),
                subject: String::new(),
                data: serde_json::Map::new(),
            };
            let wanted = sites.iter().map(|site| site.parse().unwrap()).collect();
            let filter = EventFilter { sites: Some(wanted), kinds: Vec::new() };
            prop_assert_eq!(filter.passes(&event), site.is_some_and(|site| sites.contains(&site)));
        }
    }
}
