//! A small fleet for tests: edges by name and one site, `docs`, with releases by number.

use std::net::Ipv4Addr;

use nigh_proto::{
    Digest, MachineId, MachineName, Protocols, ReleaseId, Timestamp,
    api::ReleaseState,
    report::{Credentials, Health, MachineAbout, MachineRole, Ports, Report, Sequel, SiteReport},
    state::{Location, Revision},
};

use super::{Site, World};
use crate::store::{MachineRow, ReleaseRow};

pub(crate) fn name(text: &str) -> MachineName {
    text.parse().unwrap()
}

/// Release `number`; a higher number is newer.
pub(crate) fn release(number: u64) -> ReleaseId {
    ReleaseId::new(number, [7; 10])
}

pub(crate) fn about(edge: &str) -> MachineAbout {
    MachineAbout {
        role: MachineRole::Edge,
        name: name(edge),
        region: Some("eu-frankfurt".parse().unwrap()),
        location: Some(Location { latitude: 50.1, longitude: 8.7 }),
        ipv4: vec![Ipv4Addr::new(192, 0, 2, 1)],
        ipv6: Vec::new(),
        ports: Ports { http: 80, https: 443, dns: 0 },
        version: "0.1.0".to_owned(),
        protocols: Protocols::HERE,
    }
}

pub(crate) fn machine(edge: &str) -> MachineRow {
    MachineRow {
        name: name(edge),
        id: MachineId::new(1, [1; 10]),
        role: MachineRole::Edge,
        about: about(edge),
        is_drained: false,
        joined_at: Timestamp::default(),
        signer: 1,
        certificate_not_after: Timestamp::default(),
    }
}

pub(crate) fn release_row(number: u64, state: ReleaseState) -> ReleaseRow {
    ReleaseRow {
        id: release(number),
        site: "docs".parse().unwrap(),
        state,
        manifest: Digest::of(&number.to_le_bytes()),
        rules: Digest::of(b"rules"),
        variants: None,
        files_total: 1,
        bytes_total: 1,
        message: None,
        source: None,
        pushed_by: None,
        created_at: Timestamp::default(),
        finalized_at: None,
        staging_at: None,
        goes_live: true,
        activated_at: None,
        live_revision: None,
        grace_until: None,
        preview_host: None,
        preview_expires_at: None,
        failure: None,
    }
}

/// A world at revision 7, in which release `active` went live at that revision.
pub(crate) fn world(edges: &[&str], active: Option<u64>, lagging: Option<&str>) -> World {
    let mut site = Site::new("docs".parse().unwrap(), active.map(release));
    site.hosts = vec!["docs.nigh.test".parse().unwrap()];
    site.lagging = lagging.into_iter().map(name).collect();
    site.releases = active
        .map(|number| ReleaseRow {
            live_revision: Some(7),
            ..release_row(number, ReleaseState::Active)
        })
        .into_iter()
        .collect();
    World {
        revision: 7,
        sites: vec![site],
        machines: edges.iter().map(|edge| machine(edge)).collect(),
        ..World::default()
    }
}

/// A report of `edge` at revision 7, with releases of `docs` staged and none active.
pub(crate) fn report(edge: &str, staged: &[u64]) -> Report {
    Report {
        about: about(edge),
        revision: Some(Revision(7)),
        sites: vec![SiteReport {
            site: "docs".parse().unwrap(),
            staged: staged.iter().map(|&number| release(number)).collect(),
            active: None,
            failed: Vec::new(),
            missing_blobs: 0,
        }],
        certificates: Vec::new(),
        health: Health::default(),
        sent_at: Timestamp::default(),
        credentials: Credentials::default(),
        sequel: Sequel::default(),
        holding: None,
    }
}
