//! What should one machine hold and do?
//!
//! A machine's desired state is one document with a [`Revision`]. It stays small: manifests, rule
//! sets and variant indexes are blobs named by digest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod certificates;

pub use certificates::{Certificate, DnsChallenge, HttpChallenge, TicketKey};

use crate::{
    Digest, FleetId, Host, MachineId, MachineName, RegionName, ReleaseId, SiteName, Timestamp,
    zone::Zone,
};

/// Control's number for a state of the fleet; it only rises.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

/// The whole desired state of one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum MachineState {
    Edge(EdgeState),
    Dns(DnsState),
}

impl MachineState {
    /// The revision of the document, whatever the role.
    pub const fn revision(&self) -> Revision {
        match self {
            MachineState::Edge(state) => state.revision,
            MachineState::Dns(state) => state.revision,
        }
    }

    /// What the document says, in short.
    pub fn holding(&self) -> Holding {
        match self {
            MachineState::Edge(state) => Holding {
                fleet: state.fleet.clone(),
                revision: state.revision,
                sites: state.sites.len() as u64,
                zones: 0,
            },
            MachineState::Dns(state) => Holding {
                fleet: state.fleet.clone(),
                revision: state.revision,
                sites: state.sites.len() as u64,
                zones: state.zones.len() as u64,
            },
        }
    }
}

/// What a machine's state says, in short: whose it is, and how much would go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    #[serde(default)]
    pub fleet: Option<FleetId>,
    pub revision: Revision,
    pub sites: u64,
    /// DNS servers only.
    #[serde(default)]
    pub zones: u64,
}

/// What an edge serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeState {
    pub revision: Revision,
    /// Whose state this is; `None` from a control that did not say it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    pub machine: MachineName,
    pub region: RegionName,
    pub sites: Vec<SiteState>,
    pub certificates: Vec<Certificate>,
    /// Certificates that this edge is to prove and report, and not to serve yet.
    #[serde(default)]
    pub candidates: Vec<Certificate>,
    /// Newest first: the first seals session tickets, all open them.
    #[serde(default)]
    pub ticket_keys: Vec<TicketKey>,
    #[serde(default)]
    pub http_challenges: Vec<HttpChallenge>,
    /// Every edge of the fleet that others can reach, this one among them.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// One site, as an edge holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteState {
    pub name: SiteName,
    /// Every host the site answers to, its default host among them.
    pub hosts: Vec<Host>,
    /// Whether plain HTTP is answered with a redirect to `https`.
    pub https_redirect: bool,
    /// Every release whose blobs the edge must hold: newest first. What is not listed may be
    /// collected.
    pub releases: Vec<ReleaseRef>,
    /// The one served on [`hosts`](Self::hosts). It is always among `releases`.
    pub active: Option<ReleaseId>,
    /// Releases served on hosts of their own, never indexed by search engines.
    pub previews: Vec<PreviewRef>,
}

/// Where a release's documents are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRef {
    pub id: ReleaseId,
    /// A [`Manifest`](crate::Manifest).
    pub manifest: Digest,
    /// A [`RuleSet`](crate::rules::RuleSet).
    pub rules: Digest,
    /// A [`VariantIndex`](crate::variants::VariantIndex); it may arrive, and change, after the release
    /// is live.
    pub variants: Option<Digest>,
    /// When the release was finalized: the `Last-Modified` of files that it brought.
    pub created_at: Timestamp,
    pub purpose: ReleasePurpose,
}

/// Why an edge holds a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReleasePurpose {
    /// To be served now, or as soon as control says so.
    Serve,
    /// It was active before; its immutable files stay reachable until then.
    Grace { until: Timestamp },
}

/// A preview: a release on a host of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreviewRef {
    pub host: Host,
    pub release: ReleaseId,
    /// The edge stops serving it then, even with control gone.
    pub expires_at: Option<Timestamp>,
}

/// An edge, as other edges see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub name: MachineName,
    /// As its certificate says: one that joined again, or was removed, is another machine.
    pub id: MachineId,
    pub region: RegionName,
    pub location: Option<Location>,
    /// Where it serves HTTPS.
    pub addresses: Vec<SocketAddr>,
}

/// What a DNS server answers from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsState {
    pub revision: Revision,
    /// As in [`EdgeState`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetId>,
    pub machine: MachineName,
    pub zones: Vec<Zone>,
    /// Every edge that may be named in an answer, drained ones too.
    pub edges: Vec<DnsEdge>,
    pub sites: Vec<DnsSite>,
    /// The operator's own networks; they win over GeoIP, the longest prefix first.
    pub networks: Vec<OperatorNetwork>,
    /// TTL of steered answers, in seconds.
    pub steered_ttl_s: u32,
    /// How many addresses a steered answer holds at most.
    pub answer_addresses_max: u8,
    #[serde(default)]
    pub challenges: Vec<DnsChallenge>,
}

/// An edge as a DNS server sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsEdge {
    pub name: MachineName,
    pub region: RegionName,
    pub location: Location,
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    /// Where to ask `/.well-known/nigh/health` over plain HTTP.
    pub probes: Vec<ProbeTarget>,
    /// Left out of answers while any other edge is up.
    pub is_drained: bool,
}

/// An address that a probe connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeTarget {
    pub ip: IpAddr,
    pub port: u16,
}

/// A place on earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Location {
    pub latitude: f64,
    pub longitude: f64,
}

impl Location {
    /// Whether both numbers are degrees of a place on earth.
    pub fn is_valid(self) -> bool {
        (-90.0..=90.0).contains(&self.latitude) && (-180.0..=180.0).contains(&self.longitude)
    }
}

/// A site as a DNS server sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsSite {
    pub name: SiteName,
    /// Hosts (preview hosts among them) whose A and AAAA are the nearest edges. Only those within a
    /// zone are answered.
    pub hosts: Vec<Host>,
    /// Edges that do not serve the site's active release yet.
    pub lagging: Vec<MachineName>,
}

/// Where the addresses of a network are, as the operator knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorNetwork {
    pub network: IpNet,
    pub target: NetworkTarget,
}

/// What an operator says of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkTarget {
    /// It is there; the nearest edge follows.
    Location(Location),
    /// Edges of this region first.
    Region(RegionName),
    /// This edge first.
    Edge(MachineName),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edge_state(revision: u64, hosts: &[String]) -> MachineState {
        let release = ReleaseId::new(revision, [7; 10]);
        MachineState::Edge(EdgeState {
            revision: Revision(revision),
            fleet: Some(FleetId::new(revision, [3; 10])),
            machine: "fra1".parse().unwrap(),
            region: "eu-frankfurt".parse().unwrap(),
            sites: vec![SiteState {
                name: "docs".parse().unwrap(),
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                https_redirect: true,
                releases: vec![ReleaseRef {
                    id: release.clone(),
                    manifest: Digest::of(b"manifest"),
                    rules: Digest::of(b"rules"),
                    variants: None,
                    created_at: Timestamp::from_unix_ms(1_769_860_800_123),
                    purpose: ReleasePurpose::Grace { until: Timestamp::from_unix_ms(5) },
                }],
                active: Some(release),
                previews: Vec::new(),
            }],
            certificates: Vec::new(),
            candidates: Vec::new(),
            ticket_keys: Vec::new(),
            http_challenges: Vec::new(),
            peers: Vec::new(),
        })
    }

    fn dns_state(revision: u64, hosts: &[String], latitude: f64) -> MachineState {
        let location = Location { latitude, longitude: -latitude };
        MachineState::Dns(DnsState {
            revision: Revision(revision),
            fleet: None,
            machine: "dns1".parse().unwrap(),
            zones: Vec::new(),
            edges: vec![DnsEdge {
                name: "fra1".parse().unwrap(),
                region: "eu-frankfurt".parse().unwrap(),
                location,
                ipv4: vec![Ipv4Addr::new(192, 0, 2, 1)],
                ipv6: vec![Ipv6Addr::LOCALHOST],
                probes: vec![ProbeTarget { ip: Ipv4Addr::LOCALHOST.into(), port: 80 }],
                is_drained: false,
            }],
            sites: vec![DnsSite {
                name: "docs".parse().unwrap(),
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                lagging: vec!["fra1".parse().unwrap()],
            }],
            networks: vec![OperatorNetwork {
                network: "10.0.0.0/8".parse().unwrap(),
                target: NetworkTarget::Location(location),
            }],
            steered_ttl_s: 20,
            answer_addresses_max: 2,
            challenges: Vec::new(),
        })
    }

    proptest! {
        #[test]
        fn states_round_trip(
            revision in any::<u64>(),
            hosts in proptest::collection::vec("[a-z]{1,9}(\\.[a-z]{1,9}){0,3}", 0..5),
            latitude in -90.0..90.0f64,
        ) {
            for state in [edge_state(revision, &hosts), dns_state(revision, &hosts, latitude)] {
                let text = serde_json::to_vec(&state).unwrap();
                prop_assert_eq!(serde_json::from_slice::<MachineState>(&text).unwrap(), state);
            }
        }

        #[test]
        fn a_damaged_state_is_refused_or_read_and_never_a_panic(
            cut in 0usize..2000,
            flip in any::<(usize, u8)>(),
        ) {
            let hosts = ["docs.nigh.test".to_owned()];
            for state in [edge_state(1, &hosts), dns_state(1, &hosts, 0.0)] {
                let mut text = serde_json::to_vec(&state).unwrap();
                let index = flip.0 % text.len();
                text[index] ^= flip.1;
                let _ = serde_json::from_slice::<MachineState>(&text);
                if cut < text.len() {
                    prop_assert!(serde_json::from_slice::<MachineState>(&text[..cut]).is_err());
                }
            }
        }
    }
}
