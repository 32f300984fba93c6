//! How far is every edge with a release, and has that changed since someone last looked?

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
};
use crate::store::ReleaseRow;

/// How far every edge is with `release`; when it got there is the [`Board`]'s to know.
pub(crate) fn edges_of(
    world: &World,
    statuses: &Statuses,
    site: &Site,
    release: &ReleaseRow,
    now: Instant,
) -> Vec<EdgeProgress> {
    world
        .edges()
        .map(|edge| {
            let (state, reason) = edge_state(statuses, site, release, &edge.name, now);
            EdgeProgress { name: edge.name.clone(), state, ms: None, reason }
        })
        .collect()
}

fn edge_state(
    statuses: &Statuses,
    site: &Site,
    release: &ReleaseRow,
    edge: &MachineName,
    now: Instant,
) -> (EdgeReleaseState, Option<String>) {
    let status = match (statuses.presence(edge, now), statuses.get(edge)) {
        (Presence::Here, Some(status)) => status,
        (Presence::Expected, _) => return (EdgeReleaseState::Staging, None),
        _ => return (EdgeReleaseState::Away, Some("not heard from".to_owned())),
    };
    let Some(report) = status.sites.get(&site.name) else {
        return (EdgeReleaseState::Staging, None);
    };
    let has_staged = report.staged.contains(&release.id);
    let was_told = status.revision >= release.live_revision && release.live_revision.is_some();
    if report.active.as_ref() == Some(&release.id)
        || release.state == ReleaseState::Preview && has_staged && was_told
    {
        (EdgeReleaseState::Active, None)
    } else if has_staged {
        (EdgeReleaseState::Staged, None)
    } else if let Some(failure) = report.failed.iter().find(|each| each.release == release.id) {
        (EdgeReleaseState::Failed, Some(failure.reason.clone()))
    } else {
        (EdgeReleaseState::Staging, None)
    }
}

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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::fixture;

    fn edge(state: EdgeReleaseState) -> Vec<EdgeProgress> {
        vec![EdgeProgress { name: fixture::name("fra1"), state, ms: None, reason: None }]
    }

    #[test]
    fn progress_rises_when_something_changed_and_only_then() {
        let mut board = Board::default();
        let mut row = fixture::release_row(1, ReleaseState::Staging);
        row.staging_at = Some(Timestamp::from_unix_ms(1_000));
        let at = Timestamp::from_unix_ms;
        assert!(board.observe(&row, edge(EdgeReleaseState::Staging), at(1_000)));
        let first = board.line(&row.id).unwrap().1;
        assert!(!board.observe(&row, edge(EdgeReleaseState::Staging), at(1_010)));
        assert!(board.observe(&row, edge(EdgeReleaseState::Staged), at(1_020)));
        let (edges, second) = board.line(&row.id).unwrap();
        assert_eq!(edges[0].ms, Some(20));
        assert!(second > first);
        assert!(!board.observe(&row, edge(EdgeReleaseState::Staged), at(1_500)));
        row.state = ReleaseState::Active;
        assert!(board.observe(&row, edge(EdgeReleaseState::Active), at(1_600)));
        assert_eq!(board.line(&row.id).unwrap().0[0].ms, Some(600));
    }

    #[test]
    fn progress_rises_past_that_of_another_control_whose_clock_is_ahead() {
        let row = fixture::release_row(1, ReleaseState::Staging);
        let at = Timestamp::from_unix_ms;
        let mut board = Board::default();
        board.goes_on_from(1_500, at(1_000));
        board.observe(&row, edge(EdgeReleaseState::Staging), at(1_000));
        assert!(board.line(&row.id).unwrap().1 > 1_500);
        board.goes_on_from(u64::MAX, at(1_000));
        board.observe(&row, edge(EdgeReleaseState::Staged), at(1_000));
        assert!(board.line(&row.id).unwrap().1 <= 61_001, "nonsense is bounded");
    }

    #[test]
    fn progress_rises_over_a_restart() {
        let row = fixture::release_row(1, ReleaseState::Staging);
        let at = Timestamp::from_unix_ms;
        let mut before = Board::default();
        before.observe(&row, edge(EdgeReleaseState::Staging), at(5_000));
        let mut after = Board::default();
        after.observe(&row, edge(EdgeReleaseState::Staging), at(5_500));
        assert!(after.line(&row.id).unwrap().1 > before.line(&row.id).unwrap().1);
    }

    #[test]
    fn an_edge_that_serves_a_preview_says_so_by_its_revision() {
        let now = Instant::now();
        let mut world = fixture::world(&["fra1"], None, None);
        let mut row = fixture::release_row(2, ReleaseState::Preview);
        row.live_revision = Some(9);
        world.sites[0].releases = vec![row.clone()];
        for (revision, state) in [(8, EdgeReleaseState::Staged), (9, EdgeReleaseState::Active)] {
            let mut statuses = Statuses::new(now);
            statuses.connected(&fixture::name("fra1"), now);
            let mut report = fixture::report("fra1", &[2]);
            report.revision = Some(nigh_proto::state::Revision(revision));
            statuses.reported(report, now, Timestamp::default());
            let edges = edges_of(&world, &statuses, &world.sites[0], &row, now);
            assert_eq!(edges[0].state, state);
        }
    }
    /// What an edge may say or do between two looks.
    #[derive(Clone, Debug)]
    enum Happening {
        Says { edge: usize, staged: Vec<u64>, active: Option<u64>, revision: u64 },
        Connects(usize),
        Disconnects(usize),
        Activates(u64),
        Joins,
        Time(u64),
    }

    fn any_happening() -> impl Strategy<Value = Happening> {
        let staged = proptest::collection::vec(1u64..4, 0..3);
        let active = proptest::option::of(1u64..4);
        prop_oneof![
            (0..3usize, staged, active, 5u64..12).prop_map(|(edge, staged, active, revision)| {
                Happening::Says { edge, staged, active, revision }
            }),
            (0..3usize).prop_map(Happening::Connects),
            (0..3usize).prop_map(Happening::Disconnects),
            (1u64..4).prop_map(Happening::Activates),
            Just(Happening::Joins),
            (1u64..20_000).prop_map(Happening::Time),
        ]
    }

    proptest! {
        /// Looking only at what is new finds what looking at everything does.
        #[test]
        fn no_news_is_missed(
            happenings in proptest::collection::vec(any_happening(), 1..40),
        ) {
            let names = ["fra1", "nyc1", "sin1"];
            let start = Instant::now();
            let (mut instant, mut time) = (start, Timestamp::from_unix_ms(1_000_000));
            let mut world = fixture::world(&["fra1", "nyc1"], Some(1), None);
            let releases = (1..4).map(|number| {
                let mut row = fixture::release_row(number, ReleaseState::Staging);
                row.staging_at = Some(time);
                row
            });
            world.sites[0].releases = releases.collect();
            let mut statuses = Statuses::new(start);
            let mut streams = BTreeMap::new();
            let mut board = Board::default();
            for happening in happenings {
                match happening {
                    Happening::Says { edge, staged, active, revision } => {
                        let mut report = fixture::report(names[edge], &staged);
                        report.sites[0].active = active.map(fixture::release);
                        report.revision = Some(nigh_proto::state::Revision(revision));
                        statuses.reported(report, instant, time);
                    }
                    Happening::Connects(edge) => {
                        let name = fixture::name(names[edge]);
                        streams.insert(edge, statuses.connected(&name, instant));
                    }
                    Happening::Disconnects(edge) => {
                        if let Some(stream) = streams.remove(&edge) {
                            statuses.disconnected(&fixture::name(names[edge]), stream);
                        }
                    }
                    Happening::Activates(number) => {
                        world.revision += 1;
                        for row in &mut world.sites[0].releases {
                            if row.id == fixture::release(number) {
                                row.state = ReleaseState::Active;
                                row.live_revision = Some(world.revision);
                                row.activated_at = Some(time);
                            }
                        }
                    }
                    Happening::Joins => {
                        world.revision += 1;
                        world.machines = names.iter().map(|name| fixture::machine(name)).collect();
                    }
                    Happening::Time(ms) => {
                        instant += Duration::from_millis(LOOK_EVERY.as_millis() as u64 + ms);
                        time = time.plus_ms(ms.cast_signed() + 500);
                    }
                }
                let news = statuses.take_news();
                board.look(&world, &statuses, &news, instant, time);
                for row in &world.sites[0].releases {
                    let (found, _) = board.line(&row.id).unwrap();
                    let mut edges = edges_of(&world, &statuses, &world.sites[0], row, instant);
                    for (edge, found) in edges.iter_mut().zip(found) {
                        edge.ms = found.ms;
                    }
                    prop_assert_eq!(found, edges.as_slice());
                }
            }
        }
    }
}
