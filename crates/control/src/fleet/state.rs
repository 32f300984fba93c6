//! What is one machine told?
//!
//! A pure function of the world, the settings and the time: the same for every stream of one
//! machine, on every control.

use std::net::{IpAddr, SocketAddr};

use nigh_proto::{
    MachineName, RegionName, Timestamp,
    api::ReleaseState,
    report::MachineRole,
    state::{
        DnsEdge, DnsSite, DnsState, EdgeState, MachineState, OperatorNetwork, Peer, PreviewRef,
        ProbeTarget, ReleasePurpose, ReleaseRef, Revision, SiteState,
    },
    zone::Zone,
};

mod certificates;

use super::{Site, World};
use crate::store::{MachineRow, ReleaseRow};

/// Edges that fetch from each other: control sends a large release to two of so many.
const PEERS_MAX: usize = 64;

/// What the configuration says to machines. Immutable until a reload.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub https_redirect: bool,
    pub grace_releases_max: usize,
    /// Their serials are filled in with every revision.
    pub zones: Vec<Zone>,
    pub networks: Vec<OperatorNetwork>,
    pub steered_ttl_s: u32,
    pub answer_addresses_max: u8,
}

/// The whole desired state of `machine` at the world's revision.
pub(crate) fn of(
    world: &World,
    settings: &Settings,
    machine: &MachineRow,
    now: Timestamp,
) -> MachineState {
    match machine.role {
        MachineRole::Edge => MachineState::Edge(edge(world, settings, machine, now)),
        MachineRole::Dns => MachineState::Dns(dns(world, settings, &machine.name, now)),
    }
}

fn edge(world: &World, settings: &Settings, machine: &MachineRow, now: Timestamp) -> EdgeState {
    let names = certificates::Names::of(world, now);
    EdgeState {
        revision: Revision(world.revision),
        fleet: world.fleet.clone(),
        machine: machine.name.clone(),
        region: region(machine),
        sites: world.sites.iter().map(|site| site_state(site, &names, settings, now)).collect(),
        certificates: certificates::served(world, &names, now),
        candidates: certificates::to_prove(world, &machine.name),
        ticket_keys: world.ticket_keys.clone(),
        http_challenges: certificates::http_challenges(world),
        peers: peers(world, &machine.name),
    }
}

fn site_state(
    site: &Site,
    names: &certificates::Names<'_>,
    settings: &Settings,
    now: Timestamp,
) -> SiteState {
    SiteState {
        name: site.name.clone(),
        hosts: site.hosts.clone(),
        https_redirect: settings.https_redirect && names.cover(site),
        releases: held(site, settings, now),
        active: site.active_release().map(|release| release.id.clone()),
        previews: previews(site, now)
            .filter_map(|release| {
                Some(PreviewRef {
                    host: release.preview_host.clone()?,
                    release: release.id.clone(),
                    expires_at: release.preview_expires_at,
                })
            })
            .collect(),
    }
}

/// Every release that edges hold, newest first, and why.
fn held(site: &Site, settings: &Settings, now: Timestamp) -> Vec<ReleaseRef> {
    let previous = site.previous().map(|release| &release.id);
    let mut graced: Vec<&ReleaseRow> = site
        .releases
        .iter()
        .filter(|release| release.state == ReleaseState::Superseded)
        .filter(|release| release.grace_until.is_some_and(|until| until > now))
        .collect();
    graced.sort_by_key(|release| std::cmp::Reverse(release.activated_at));
    graced.truncate(settings.grace_releases_max);
    let purpose = |release: &ReleaseRow| match release.state {
        ReleaseState::Staging
        | ReleaseState::Staged
        | ReleaseState::Active
        | ReleaseState::Preview => Some(ReleasePurpose::Serve),
        ReleaseState::Superseded => {
            let is_held = previous == Some(&release.id)
                || graced.iter().any(|graced| graced.id == release.id);
            // The one that rollback goes to is held even when its own grace has passed.
            let until = release.grace_until.or(release.activated_at).unwrap_or_default();
            is_held.then_some(ReleasePurpose::Grace { until })
        }
        ReleaseState::Uploading | ReleaseState::Expired | ReleaseState::Failed => None,
    };
    let reference = |release: &ReleaseRow| {
        Some(ReleaseRef {
            id: release.id.clone(),
            manifest: release.manifest,
            rules: release.rules,
            variants: release.variants,
            created_at: release.finalized_at.unwrap_or(release.created_at),
            purpose: purpose(release)?,
        })
    };
    site.releases.iter().filter_map(reference).collect()
}

/// Releases that are served on a host of their own now.
fn previews(site: &Site, now: Timestamp) -> impl Iterator<Item = &ReleaseRow> {
    site.releases
        .iter()
        .filter(|release| match release.state {
            ReleaseState::Preview | ReleaseState::Active => true,
            // A preview that waits to be promoted.
            ReleaseState::Staging => release.goes_live,
            _ => false,
        })
        .filter(move |release| release.preview_expires_at.is_none_or(|expires| expires > now))
        .filter(|release| release.preview_host.is_some())
}

fn dns(world: &World, settings: &Settings, machine: &MachineName, now: Timestamp) -> DnsState {
    // Serial numbers live in 32 bits and compare as RFC 1982 says.
    let serial = u32::try_from(world.revision & 0xffff_ffff).unwrap_or(u32::MAX);
    let zones = settings.zones.iter().map(|zone| {
        let mut zone = zone.clone();
        zone.soa.serial = serial;
        zone
    });
    DnsState {
        revision: Revision(world.revision),
        fleet: world.fleet.clone(),
        machine: machine.clone(),
        zones: zones.collect(),
        edges: world.edges().filter_map(dns_edge).collect(),
        sites: world.sites.iter().map(|site| dns_site(site, now)).collect(),
        networks: settings.networks.clone(),
        steered_ttl_s: settings.steered_ttl_s,
        answer_addresses_max: settings.answer_addresses_max,
        challenges: certificates::dns_challenges(world),
    }
}

/// Those that `edge` fetches from and gives to.
fn peers(world: &World, edge: &MachineName) -> Vec<Peer> {
    let group = groups(world).take_while(|(first, _)| *first <= edge).last();
    group.map(|(_, peers)| peers).unwrap_or_default()
}

/// Edges by the groups in which they fetch from each other, with the name of the first in each: all
/// of a usual fleet are one. Without groups, what a thousand edges are told would grow with the
/// square of their number.
pub(crate) fn groups(world: &World) -> impl Iterator<Item = (&MachineName, Vec<Peer>)> {
    let mut edges = world.edges().peekable();
    std::iter::from_fn(move || {
        let first = &edges.peek()?.name;
        Some((first, edges.by_ref().take(PEERS_MAX).filter_map(peer).collect()))
    })
}

/// `None` for an edge that others could not connect to.
fn peer(machine: &MachineRow) -> Option<Peer> {
    let about = &machine.about;
    let ips = about.ipv4.iter().map(|&ip| ip.into()).chain(about.ipv6.iter().map(|&ip| ip.into()));
    let addresses: Vec<SocketAddr> =
        ips.map(|ip: IpAddr| SocketAddr::new(ip, about.ports.https)).collect();
    (about.ports.https != 0 && !addresses.is_empty()).then(|| Peer {
        name: machine.name.clone(),
        id: machine.id.clone(),
        region: region(machine),
        location: about.location.filter(|location| location.is_valid()),
        addresses,
    })
}

/// `None` for an edge that nobody could be sent to: it has no place or no address.
fn dns_edge(machine: &MachineRow) -> Option<DnsEdge> {
    let about = &machine.about;
    let location = about.location.filter(|location| location.is_valid())?;
    let ips = about.ipv4.iter().map(|&ip| ip.into()).chain(about.ipv6.iter().map(|&ip| ip.into()));
    let probes: Vec<ProbeTarget> =
        ips.map(|ip| ProbeTarget { ip, port: about.ports.http }).collect();
    if probes.is_empty() {
        return None;
    }
    Some(DnsEdge {
        name: machine.name.clone(),
        region: region(machine),
        location,
        ipv4: about.ipv4.clone(),
        ipv6: about.ipv6.clone(),
        // Without a plain port there is nothing to ask: the edge counts as up.
        probes: if about.ports.http == 0 { Vec::new() } else { probes },
        is_drained: machine.is_drained,
    })
}

fn dns_site(site: &Site, now: Timestamp) -> DnsSite {
    let previews = previews(site, now).filter_map(|release| release.preview_host.clone());
    DnsSite {
        name: site.name.clone(),
        hosts: site.hosts.iter().cloned().chain(previews).collect(),
        lagging: site.lagging.clone(),
    }
}

/// An edge that names no region is one of its own.
fn region(machine: &MachineRow) -> RegionName {
    let own = || machine.name.as_str().parse().expect("a machine's name is a region's name too");
    machine.about.region.clone().unwrap_or_else(own)
}

#[cfg(test)]
pub(crate) mod tests;
