//! Which edges begin or cease to lag behind a site's active release?
//!
//! An edge that lags is left out of the site's DNS answers. It begins to lag at activation
//! (`activation` says which), when it joins, and when it is found not to serve what it should; it
//! ceases when it reports that it serves the active release.

use std::{collections::BTreeMap, time::Instant};

use nigh_proto::{
    MachineName, SiteName, Timestamp,
    report::{AWAY_AFTER_MS, MachineRole},
};

use super::{
    Site, World,
    presence::{News, Presence, Statuses},
};

/// One edge's change towards one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub site: SiteName,
    pub edge: MachineName,
    pub is_lagging: bool,
}

/// Everything that is to be changed, given what edges last said.
pub(crate) fn changes(
    world: &World,
    statuses: &Statuses,
    now: Instant,
    time: Timestamp,
) -> Vec<Change> {
    let sites = world.sites.iter().filter(|site| site.active.is_some());
    let pairs = sites.flat_map(|site| world.edges().map(move |edge| (site, &edge.name)));
    pairs.filter_map(|(site, edge)| change(site, edge, statuses, now, time)).collect()
}

/// What is to be changed because of `news`: as [`changes`], but for what follows from the time.
pub(crate) fn changes_by(
    news: &BTreeMap<MachineName, News>,
    world: &World,
    statuses: &Statuses,
    now: Instant,
    time: Timestamp,
) -> Vec<Change> {
    let edges = news.iter().filter(|(name, _)| {
        world.machine(name).is_some_and(|machine| machine.role == MachineRole::Edge)
    });
    let pairs = edges.flat_map(|(edge, news)| {
        let sites = world.sites.iter().filter(|site| site.active.is_some());
        sites.filter(|site| is_new(site, news)).map(move |site| (site, edge))
    });
    pairs.filter_map(|(site, edge)| change(site, edge, statuses, now, time)).collect()
}

/// Whether what is new of an edge can make a difference to this site.
fn is_new(site: &Site, news: &News) -> bool {
    let is_activated_since = |older: u64| {
        let live_revision = site.active_release().and_then(|active| active.live_revision);
        live_revision.is_some_and(|live| live > older)
    };
    news.everything
        || !news.sites.is_empty() && news.sites.contains(&site.name)
        || news.older.is_some_and(is_activated_since)
}

fn change(
    site: &Site,
    edge: &MachineName,
    statuses: &Statuses,
    now: Instant,
    time: Timestamp,
) -> Option<Change> {
    let was_lagging = site.lagging.contains(edge);
    let is_lagging = lags(site, edge, statuses, now, time).unwrap_or(was_lagging);
    let (site, edge) = (site.name.clone(), edge.clone());
    (is_lagging != was_lagging).then_some(Change { site, edge, is_lagging })
}

/// Whether `edge` lags behind `site`; `None` when what it said does not tell.
fn lags(
    site: &Site,
    edge: &MachineName,
    statuses: &Statuses,
    now: Instant,
    time: Timestamp,
) -> Option<bool> {
    let active = site.active_release()?;
    let live_revision = active.live_revision?;
    let status = statuses.get(edge)?;
    let serves = status.sites.get(&site.name).and_then(|report| report.active.as_ref());
    if serves == site.active.as_ref() {
        return Some(false);
    }
    // It was told of the activation, and acted, and does not serve it; or it went away before, or
    // does not act at all.
    let was_told = status.revision.is_some_and(|revision| revision >= live_revision);
    let is_away = statuses.presence(edge, now) == Presence::Away;
    let is_overdue = active
        .activated_at
        .is_some_and(|since| time.ms_since(since) >= AWAY_AFTER_MS.cast_signed());
    (status.reported_at.is_some() && (was_told || is_away || is_overdue)).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixture::{self, name, release};

    /// The release of these tests became active at zero, too short ago to be overdue.
    fn soon() -> Timestamp {
        Timestamp::from_unix_ms(1_000)
    }

    /// What `fra1` says of the site (revision, active release), whether it lagged, and whether it
    /// begins or ceases to. Release 2 became active at revision 7.
    #[test]
    fn an_edge_lags_until_it_says_that_it_serves_the_active_release() {
        let now = Instant::now();
        for (revision, active, was_lagging, change) in [
            (7, Some(2), true, Some(false)),
            (7, Some(2), false, None),
            (6, Some(1), true, None),
            // In flight: it has staged the release and will swap in a moment.
            (6, Some(1), false, None),
            // It acted on the revision and does not serve the release.
            (7, Some(1), false, Some(true)),
            (8, None, false, Some(true)),
        ] {
            let world = fixture::world(&["fra1"], Some(2), was_lagging.then_some("fra1"));
            let mut statuses = Statuses::new(now);
            statuses.connected(&name("fra1"), now);
            let mut report = fixture::report("fra1", &[1, 2]);
            report.revision = Some(nigh_proto::state::Revision(revision));
            report.sites[0].active = active.map(release);
            statuses.reported(report, now, Timestamp::default());
            let found: Vec<bool> = changes(&world, &statuses, now, soon())
                .iter()
                .map(|change| change.is_lagging)
                .collect();
            assert_eq!(found, Vec::from_iter(change), "{revision} {active:?} {was_lagging}");
        }
    }

    use proptest::prelude::*;

    /// What happens to the fleet of the test below.
    #[derive(Clone, Debug)]
    enum Step {
        Report { revision: u64, active: u64 },
        Activate { release: u64 },
        Connect,
        Disconnect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (5u64..12, 1u64..3).prop_map(|(revision, active)| Step::Report { revision, active }),
            (1u64..3).prop_map(|release| Step::Activate { release }),
            Just(Step::Connect),
            Just(Step::Disconnect),
        ]
    }

    proptest! {
        /// To look only at what is new finds all that there is to find, while time stands still.
        #[test]
        fn nothing_is_missed_by_looking_at_what_is_new(steps in proptest::collection::vec(step(), 1..20)) {
            let now = Instant::now();
            let mut world = fixture::world(&["fra1"], Some(2), None);
            let mut statuses = Statuses::new(now);
            let (edge, mut streams) = (name("fra1"), Vec::new());
            for step in steps {
                match step {
                    Step::Report { revision, active } => {
                        let mut report = fixture::report("fra1", &[1, 2]);
                        report.revision = Some(nigh_proto::state::Revision(revision));
                        report.sites[0].active = Some(release(active));
                        statuses.reported(report, now, Timestamp::default());
                    }
                    Step::Activate { release: number } => {
                        world.revision += 1;
                        let mut row = fixture::release_row(number, nigh_proto::api::ReleaseState::Active);
                        row.live_revision = Some(world.revision);
                        world.sites[0].active = Some(release(number));
                        world.sites[0].releases = vec![row];
                        // Control knows who is left behind, and has found all before.
                        let serves = |edge| {
                            let report = statuses.site(edge, &world.sites[0].name);
                            report.and_then(|report| report.active.clone()) == Some(release(number))
                        };
                        let is_told = statuses.get(&edge).and_then(|status| status.revision);
                        prop_assume!(is_told.is_none_or(|told| told < world.revision));
                        world.sites[0].lagging = if serves(&edge) { Vec::new() } else { vec![edge.clone()] };
                    }
                    Step::Connect => streams.push(statuses.connected(&edge, now)),
                    Step::Disconnect => {
                        if let Some(stream) = streams.pop() {
                            statuses.disconnected(&edge, stream);
                        }
                    }
                }
                let all = changes(&world, &statuses, now, soon());
                let news = statuses.take_news();
                prop_assert_eq!(&changes_by(&news, &world, &statuses, now, soon()), &all);
                for change in all {
                    world.sites[0].lagging.retain(|edge| *edge != change.edge);
                    if change.is_lagging {
                        world.sites[0].lagging.push(change.edge);
                    }
                }
            }
        }
    }

    #[test]
    fn an_edge_that_dies_before_it_swapped_lags() {
        let now = Instant::now();
        let world = fixture::world(&["fra1"], Some(2), None);
        let mut statuses = Statuses::new(now);
        let stream = statuses.connected(&name("fra1"), now);
        let mut report = fixture::report("fra1", &[1, 2]);
        report.revision = Some(nigh_proto::state::Revision(6));
        report.sites[0].active = Some(release(1));
        statuses.reported(report, now, Timestamp::default());
        assert_eq!(changes(&world, &statuses, now, soon()), []);
        statuses.disconnected(&name("fra1"), stream);
        assert!(changes(&world, &statuses, now, soon())[0].is_lagging);
    }

    #[test]
    fn an_edge_that_never_acts_on_the_activation_lags_in_the_end() {
        let now = Instant::now();
        let mut world = fixture::world(&["fra1"], Some(2), None);
        let activated_at = Timestamp::from_unix_ms(1_000);
        world.sites[0].releases[0].activated_at = Some(activated_at);
        let mut statuses = Statuses::new(now);
        statuses.connected(&name("fra1"), now);
        let mut report = fixture::report("fra1", &[1, 2]);
        report.revision = Some(nigh_proto::state::Revision(6));
        report.sites[0].active = Some(release(1));
        statuses.reported(report, now, Timestamp::default());
        let after = |ms: u64| activated_at.plus_ms(ms.cast_signed());
        assert_eq!(changes(&world, &statuses, now, after(AWAY_AFTER_MS - 1)), []);
        assert!(changes(&world, &statuses, now, after(AWAY_AFTER_MS))[0].is_lagging);
    }

    #[test]
    fn an_edge_that_was_never_heard_of_stays_as_it_was() {
        let now = Instant::now();
        for lagging in [None, Some("fra1")] {
            let world = fixture::world(&["fra1"], Some(2), lagging);
            assert_eq!(changes(&world, &Statuses::new(now), now, soon()), []);
        }
    }
}
