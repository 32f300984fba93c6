//! Why would a client be given these edges?

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use nigh_proto::{
    MachineName, RegionName, SiteName,
    state::{Location, NetworkTarget, Revision},
    zone::DnsName,
};
use serde::Serialize;

use crate::{
    fleet::{Fleet, Site},
    locate::Basis,
    name::Name,
    snapshot::Snapshot,
    steer::{Family, Standing, choose, distance_km, rank},
    zone::Found,
};

/// The whole reasoning behind the addresses of one name for one client.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub revision: Revision,
    pub name: DnsName,
    pub client: IpAddr,
    pub outcome: Outcome,
}

/// What kind of name it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// No zone of this server holds the name.
    OutsideZones,
    /// The zone is ours and the name does not exist.
    Absent {
        zone: String,
    },
    /// The name is answered from fixed records, or by other name servers.
    Fixed {
        zone: String,
    },
    Steered(Steering),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steering {
    pub zone: String,
    pub site: SiteName,
    pub located_by: LocatedBy,
    pub location: Option<Location>,
    /// How many leading bits of the client's address share this answer.
    pub scope_len: u8,
    /// Number of the autonomous system, when there is a file for it.
    pub asn: Option<u32>,
    pub ipv4: Vec<IpAddr>,
    pub ipv6: Vec<IpAddr>,
    /// Every edge: those in the answer first, in its order, then the others by distance.
    pub edges: Vec<EdgeView>,
}

/// Who says where the client is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum LocatedBy {
    OperatorNetwork { network: String, target: NetworkTarget },
    Geoip,
    Registry { name: &'static str },
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeView {
    pub edge: MachineName,
    pub region: RegionName,
    pub is_answer: bool,
    pub distance_km: Option<f64>,
    pub rtt_ms: Option<f64>,
    /// Why it is not in the answer; `None` for those that are.
    pub excluded: Option<String>,
}

/// Says which edges `client` is given for `name`, and why.
pub fn explain(snapshot: &Snapshot, name: &DnsName, client: IpAddr) -> Explanation {
    let wire = Name::from(name);
    let outcome = match snapshot.zones.closest(wire.as_bytes()) {
        None => Outcome::OutsideZones,
        Some(zone) => {
            let apex = crate::name::to_text(zone.apex.as_bytes());
            match zone.find(wire.as_bytes()) {
                Found::Nothing => Outcome::Absent { zone: apex },
                Found::Node(node) => match node.site {
                    Some(site) => Outcome::Steered(steering(snapshot, apex, site, client)),
                    None => Outcome::Fixed { zone: apex },
                },
                Found::Cut { .. } => Outcome::Fixed { zone: apex },
            }
        }
    };
    Explanation { revision: snapshot.revision, name: name.clone(), client, outcome }
}

fn steering(snapshot: &Snapshot, zone: String, site: u32, client: IpAddr) -> Steering {
    let fleet = &*snapshot.fleet;
    let site = &fleet.sites[site as usize];
    let place = snapshot.locate(client.to_canonical());
    let v4 = choose(fleet, site, Family::V4, &place.basis);
    let v6 = choose(fleet, site, Family::V6, &place.basis);
    let mut chosen = v4.edges.clone();
    chosen.extend(v6.edges.iter().filter(|edge| !v4.edges.contains(edge)));
    Steering {
        zone,
        site: site.name.clone(),
        located_by: located_by(&place.basis),
        location: place.basis.location(),
        scope_len: if v4.is_universal && v6.is_universal { 0 } else { place.uniform_len },
        asn: snapshot.geo.asn.as_ref().and_then(|file| file.asn(client)),
        edges: edge_views(fleet, site, &place.basis, &chosen),
        ipv4: v4.addresses,
        ipv6: v6.addresses,
    }
}

fn located_by(basis: &Basis<'_>) -> LocatedBy {
    match basis {
        Basis::Operator { network, target } => {
            LocatedBy::OperatorNetwork { network: network.to_string(), target: (*target).clone() }
        }
        Basis::Geo { .. } => LocatedBy::Geoip,
        Basis::Coarse { registry } => LocatedBy::Registry { name: registry.label() },
        Basis::Unknown => LocatedBy::Nobody,
    }
}

fn edge_views(fleet: &Fleet, site: &Site, basis: &Basis<'_>, chosen: &[usize]) -> Vec<EdgeView> {
    let eligible: Vec<usize> = [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|family| rank(fleet, site, family, basis))
        .map(|ranked| ranked.edge)
        .collect();
    let mut views: Vec<(usize, EdgeView)> = (0..fleet.edges.len())
        .map(|number| {
            let position = chosen.iter().position(|&edge| edge == number);
            let view = edge_view(fleet, site, basis, number, position.is_some(), &eligible);
            (position.unwrap_or(usize::MAX), view)
        })
        .collect();
    views.sort_by(|(a, a_view), (b, b_view)| {
        let distance = |view: &EdgeView| view.distance_km.unwrap_or(f64::MAX);
        a.cmp(b).then(distance(a_view).total_cmp(&distance(b_view)))
    });
    views.into_iter().map(|(_, view)| view).collect()
}

fn edge_view(
    fleet: &Fleet,
    site: &Site,
    basis: &Basis<'_>,
    number: usize,
    is_answer: bool,
    eligible: &[usize],
) -> EdgeView {
    let edge = &fleet.edges[number];
    let standing = Standing::of(edge, number, site);
    let excluded = if is_answer {
        None
    } else if edge.ipv4.is_empty() && edge.ipv6.is_empty() {
        Some("it has no address".to_owned())
    } else if !eligible.contains(&number) {
        Some(format!("it is {}", standing.label()))
    } else {
        Some("others are nearer".to_owned())
    };
    let distance = basis.location().map(|client| distance_km(client, edge.location));
    EdgeView {
        edge: edge.name.clone(),
        region: edge.region.clone(),
        is_answer,
        distance_km: distance,
        rtt_ms: distance.map(crate::steer::rtt_ms),
        excluded,
    }
}
