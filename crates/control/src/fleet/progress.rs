//! How far is every edge with a release?

use std::time::Instant;

use nigh_proto::{
    MachineName,
    api::{EdgeProgress, EdgeReleaseState, ReleaseState},
};

use super::{
    Site, World,
    presence::{Presence, Statuses},
};
use crate::store::ReleaseRow;

/// How far every edge is with `release`; when it got there is the [`Board`](super::board::Board)'s to know.
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

/// How far one edge is with `release`, and why it is no further.
pub(super) fn edge_state(
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

#[cfg(test)]
mod tests {
    use nigh_proto::Timestamp;

    use super::*;
    use crate::fleet::fixture;

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
}
