//! Which edges begin or cease to lag behind a site's active release?
//!
//! An edge that lags is left out of the site's DNS answers. It begins to lag at activation
//! (`activation` says which), when it joins, and when it is found not to serve what it should; it
//! ceases when it reports that it serves the active release.

use std::time::Instant;

use nigh_proto::{MachineName, SiteName, Timestamp, report::AWAY_AFTER_MS};

use super::{
    Site, World,
    presence::{Presence, Statuses},
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
    sites
        .flat_map(|site| {
            world.edges().filter_map(move |edge| {
                let was_lagging = site.lagging.contains(&edge.name);
                let is_lagging = lags(site, &edge.name, statuses, now, time);
                let is_lagging = is_lagging.unwrap_or(was_lagging);
                (is_lagging != was_lagging).then(|| Change {
                    site: site.name.clone(),
                    edge: edge.name.clone(),
                    is_lagging,
                })
            })
        })
        .collect()
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
