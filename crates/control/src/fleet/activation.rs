//! May a release go live now, and which edges are left behind if it does?
//!
//! All edges that are here must have staged it, drained ones too. After the deadline those that
//! have not are left behind, as are edges that are away; but with no edge ready at all control
//! goes on waiting, since a site that is a release behind beats a site that is down. Edges that a
//! control which has just started has not heard of are waited for, deadline or not.

use std::time::Instant;

use nigh_proto::{MachineName, Timestamp};

use super::{
    Site, World,
    presence::{Presence, Statuses},
};
use crate::store::ReleaseRow;

/// How one edge stands to a release that wants to go live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Staged,
    /// Control has just started and has not heard of it.
    Unheard,
    /// Here, or expected, and not ready.
    Fetching,
    Away,
}

/// What is to be done about a staging release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Edges are still fetching, or on their way back to a control that has just started.
    Wait { until: Timestamp },
    /// The deadline passed and no edge is ready: go on waiting, and warn.
    Stuck,
    /// Go live; these edges are left out of the answers until they have caught up.
    Go { lagging: Vec<MachineName> },
}

/// Decides from how every edge of the fleet stands.
pub(crate) fn decide(
    edges: &[(MachineName, Readiness)],
    deadline: Timestamp,
    now: Timestamp,
) -> Decision {
    let any = |wanted: Readiness| edges.iter().any(|(_, readiness)| *readiness == wanted);
    if edges.is_empty() {
        return Decision::Go { lagging: Vec::new() };
    }
    if any(Readiness::Unheard) || any(Readiness::Fetching) && now < deadline {
        return Decision::Wait { until: deadline };
    }
    if !any(Readiness::Staged) {
        return if now < deadline { Decision::Wait { until: deadline } } else { Decision::Stuck };
    }
    let is_behind = |readiness: Readiness| readiness != Readiness::Staged;
    let behind = edges.iter().filter(|(_, readiness)| is_behind(*readiness));
    Decision::Go { lagging: behind.map(|(name, _)| name.clone()).collect() }
}

/// How every edge stands to `release`.
pub(crate) fn readiness(
    world: &World,
    statuses: &Statuses,
    site: &Site,
    release: &ReleaseRow,
    now: Instant,
) -> Vec<(MachineName, Readiness)> {
    world
        .edges()
        .map(|edge| {
            let readiness = match statuses.presence(&edge.name, now) {
                Presence::Away => Readiness::Away,
                Presence::Here if statuses.has_staged(&edge.name, &site.name, &release.id) => {
                    Readiness::Staged
                }
                Presence::Expected if statuses.is_unheard(&edge.name, now) => Readiness::Unheard,
                Presence::Here | Presence::Expected => Readiness::Fetching,
            };
            (edge.name.clone(), readiness)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Readiness::*, *};
    use crate::fleet::fixture::name;

    #[test]
    fn a_release_goes_live_when_every_edge_that_counts_has_staged_it() {
        let go = |lagging: &[&str]| Decision::Go {
            lagging: lagging.iter().map(|edge| name(edge)).collect(),
        };
        let deadline = Timestamp::from_unix_ms(30);
        let wait = Decision::Wait { until: deadline };
        // The edges, the time in milliseconds, and what is decided.
        type Row<'a> = (&'a [(&'a str, Readiness)], i64, Decision);
        let table: &[Row<'_>] = &[
            (&[], 0, go(&[])),
            (&[("a", Staged)], 0, go(&[])),
            (&[("a", Staged), ("b", Fetching)], 29, wait.clone()),
            (&[("a", Staged), ("b", Fetching)], 30, go(&["b"])),
            (&[("a", Staged), ("b", Away)], 0, go(&["b"])),
            (&[("a", Staged), ("b", Away), ("c", Fetching)], 31, go(&["b", "c"])),
            (&[("a", Fetching)], 29, wait.clone()),
            (&[("a", Fetching)], 30, Decision::Stuck),
            (&[("a", Staged), ("b", Unheard)], 31, wait.clone()),
            (&[("a", Away)], 0, wait),
            (&[("a", Away), ("b", Away)], 99, Decision::Stuck),
        ];
        for (edges, now, expected) in table {
            let edges: Vec<_> = edges.iter().map(|(edge, ready)| (name(edge), *ready)).collect();
            assert_eq!(
                decide(&edges, deadline, Timestamp::from_unix_ms(*now)),
                *expected,
                "{edges:?} at {now}"
            );
        }
    }
}
