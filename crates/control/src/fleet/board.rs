//! Has a release come further since someone last looked?
//!
//! A thousand edges with a thousand sites say something many times a second. So a look follows what
//! is new of machines, and everything is looked at again only where a release or the fleet is
//! another, or who is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use nigh_proto::{
    MachineId, MachineName, ReleaseId, Timestamp,
    api::{EdgeProgress, EdgeReleaseState, ReleaseState},
};

use super::{
    Site, World,
    presence::{News, Presence, Statuses},
    progress::{edge_state, edges_of},
};
use crate::store::ReleaseRow;

/// When each edge reached its state with each release, and a number that rises with every change.
///
/// Not durable: the number begins at the time of day, so it rises over restarts too. At most one
/// line per release that machines hold and edge.
#[derive(Debug, Default)]
pub(crate) struct Board {
    last: u64,
    releases: BTreeMap<ReleaseId, Line>,
    seen: Seen,
}

/// What the fleet was like when everything was looked at last.
#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    revision: u64,
    edges: Vec<(MachineName, MachineId, Presence)>,
}

/// How often it is asked who is there, which may change by the clock alone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far the clocks of two controls may differ.
const AHEAD_MAX_MS: i64 = 60_000;
/// How long the end of a release can still be waited for.
const ENDED_KEPT_MS: i64 = 10 * 60 * 1000;

/// Whether somebody may wait to see a release come further. A thousand edges with a thousand sites
/// hold too many others to look at each of them whenever an edge says something.
pub(crate) fn is_followed(row: &ReleaseRow, now: Timestamp) -> bool {
    let last = row.staging_at.max(row.activated_at);
    row.state == ReleaseState::Staging
        || last.is_some_and(|last| now.ms_since(last) <= ENDED_KEPT_MS)
}

#[derive(Debug)]
struct Line {
    progress: u64,
    row: ReleaseRow,
    edges: Vec<EdgeProgress>,
}

impl Line {
    /// Edges are in the order of their names.
    fn edge(&self, name: &MachineName) -> Option<&EdgeProgress> {
        let index = self.edges.binary_search_by(|edge| edge.name.cmp(name)).ok()?;
        Some(&self.edges[index])
    }

    /// Looks at one edge again; whether it has come further.
    fn update(
        &mut self,
        name: &MachineName,
        site: &Site,
        statuses: &Statuses,
        instant: Instant,
        now: Timestamp,
    ) -> bool {
        let Ok(index) = self.edges.binary_search_by(|edge| edge.name.cmp(name)) else {
            return false;
        };
        let (state, reason) = edge_state(statuses, site, &self.row, name, instant);
        let edge = &mut self.edges[index];
        if edge.state != state {
            edge.ms = reached_ms(&self.row, state, true, now);
        } else if edge.reason == reason {
            return false;
        }
        (edge.state, edge.reason) = (state, reason);
        true
    }
}

/// Whether what is new of an edge can make a difference to how far it is with `row`.
fn concerns(news: &News, row: &ReleaseRow) -> bool {
    news.everything
        || news.sites.contains(&row.site)
        || news.older.is_some_and(|older| row.live_revision.is_some_and(|live| live > older))
}

impl Board {
    /// Looks at every release that somebody may follow, as far as `news` or a new revision can have
    /// made a difference; whether anything has changed for someone who waits. All `news` since the
    /// last look has to be shown here.
    pub(crate) fn look(
        &mut self,
        world: &World,
        statuses: &Statuses,
        news: &BTreeMap<MachineName, News>,
        instant: Instant,
        now: Timestamp,
    ) -> bool {
        let is_due =
            self.seen.at.is_none_or(|at| instant.saturating_duration_since(at) >= LOOK_EVERY);
        let mut has_changed = false;
        let mut moved = BTreeSet::new();
        if is_due || self.seen.revision != world.revision {
            let edges: Vec<_> = world
                .edges()
                .map(|edge| {
                    (edge.name.clone(), edge.id.clone(), statuses.presence(&edge.name, instant))
                })
                .collect();
            let pairs = || edges.iter().zip(&self.seen.edges);
            let is_same_fleet = edges.len() == self.seen.edges.len()
                && pairs().all(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1));
            if is_same_fleet {
                let others = pairs().filter(|(now, before)| now.2 != before.2);
                moved = others.map(|(now, _)| now.0.clone()).collect();
            }
            self.seen = Seen { at: Some(instant), revision: world.revision, edges };
            for site in &world.sites {
                for row in site.releases.iter().filter(|row| is_followed(row, now)) {
                    let line = self.releases.get(&row.id);
                    if !is_same_fleet || line.is_none_or(|line| line.row != *row) {
                        let edges = edges_of(world, statuses, site, row, instant);
                        has_changed |= self.observe(row, edges, now);
                    }
                }
            }
            self.retain(now, |row| {
                let is_held =
                    world.site(&row.site).is_some_and(|site| site.release(&row.id).is_some());
                is_held && is_followed(row, now)
            });
        }
        for name in news.keys() {
            let index = self.seen.edges.binary_search_by(|(edge, ..)| edge.cmp(name));
            let Ok(index) = index else { continue };
            let presence = statuses.presence(name, instant);
            if std::mem::replace(&mut self.seen.edges[index].2, presence) != presence {
                moved.insert(name.clone());
            }
        }
        let news: Vec<_> = news.iter().filter(|(_, news)| **news != News::default()).collect();
        if news.is_empty() && moved.is_empty() {
            return has_changed;
        }
        for line in self.releases.values_mut() {
            let site = world.site(&line.row.site);
            let Some(site) = site.filter(|site| site.release(&line.row.id).is_some()) else {
                continue;
            };
            let concerned = news.iter().filter(|(_, news)| concerns(news, &line.row));
            let names: Vec<_> = concerned.map(|(name, _)| *name).chain(&moved).collect();
            let mut is_further = false;
            for name in names {
                is_further |= line.update(name, site, statuses, instant, now);
            }
            if is_further {
                line.progress = next(&mut self.last, now);
                has_changed = true;
            }
        }
        has_changed
    }

    /// Takes in how things stand; whether anything has changed for someone who waits.
    pub(crate) fn observe(
        &mut self,
        row: &ReleaseRow,
        mut edges: Vec<EdgeProgress>,
        now: Timestamp,
    ) -> bool {
        let line = self.releases.get(&row.id);
        let restaged = line.is_none_or(|line| line.row.staging_at != row.staging_at);
        for edge in &mut edges {
            let before = line.and_then(|line| line.edge(&edge.name));
            edge.ms = match before {
                Some(before) if before.state == edge.state && !restaged => before.ms,
                _ => reached_ms(row, edge.state, line.is_some(), now),
            };
        }
        if line.is_some_and(|line| line.row == *row && line.edges == edges) {
            return false;
        }
        let progress = next(&mut self.last, now);
        self.releases.insert(row.id.clone(), Line { progress, row: row.clone(), edges });
        true
    }

    /// Forgets releases that no machine holds any more, a while after they last changed: someone
    /// may still wait to be told their end.
    fn retain(&mut self, now: Timestamp, is_held: impl Fn(&ReleaseRow) -> bool) {
        let long_ago = now.plus_ms(-ENDED_KEPT_MS).unix_ms().max(0).unsigned_abs();
        self.releases.retain(|_, line| line.progress > long_ago || is_held(&line.row));
    }

    /// The edges and the progress of a release as last observed; without a line nothing happens
    /// to it, so its progress is that of the moment it was last written.
    pub(crate) fn line(&self, release: &ReleaseId) -> Option<(&[EdgeProgress], u64)> {
        self.releases.get(release).map(|line| (line.edges.as_slice(), line.progress))
    }

    /// What changes from now on is newer than `progress`, which another control has given, unless
    /// that is far in the future.
    pub(crate) fn goes_on_from(&mut self, progress: u64, now: Timestamp) {
        let bound = now.plus_ms(AHEAD_MAX_MS).unix_ms().max(0).unsigned_abs();
        self.last = self.last.max(progress.min(bound));
    }
}

fn next(last: &mut u64, now: Timestamp) -> u64 {
    *last = (*last + 1).max(now.unix_ms().unsigned_abs());
    *last
}

/// Milliseconds from the last start of staging to now, for an edge that has just got there.
///
/// After control's restart nobody knows when an edge got where it is, unless it is still staging.
fn reached_ms(
    row: &ReleaseRow,
    state: EdgeReleaseState,
    is_followed: bool,
    now: Timestamp,
) -> Option<u64> {
    let is_news = matches!(state, EdgeReleaseState::Staged | EdgeReleaseState::Active);
    let is_underway = is_followed || row.state == ReleaseState::Staging;
    let since = row.staging_at.filter(|_| is_news && is_underway)?;
    u64::try_from(now.ms_since(since)).ok()
}

#[cfg(test)]
mod tests;
