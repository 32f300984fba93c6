//! Which edges and sites are there to choose from?

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nigh_proto::{
    MachineName, RegionName, SiteName,
    state::{DnsState, Location, NetworkTarget},
};

use crate::networks::Networks;

/// The edges, the sites on them, and what the operator says of networks.
#[derive(Debug, Default)]
pub struct Fleet {
    pub edges: Vec<Edge>,
    pub sites: Vec<Site>,
    pub networks: Networks<NetworkTarget>,
    pub steered_ttl_s: u32,
    pub answer_addresses_max: usize,
}

/// One edge. Its index in [`Fleet::edges`] is its number for the life of the snapshot.
#[derive(Debug)]
pub struct Edge {
    pub name: MachineName,
    pub region: RegionName,
    pub location: Location,
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    pub is_drained: bool,
    pub health: Health,
}

#[derive(Debug)]
pub struct Site {
    pub name: SiteName,
    /// By number of the edge: those that do not serve the active release yet.
    lagging: Vec<bool>,
}

/// Whether an edge is up; written by probes, read by answers, shared between snapshots.
#[derive(Clone, Debug)]
pub struct Health(Arc<AtomicBool>);

impl Default for Health {
    /// Up, until probes say otherwise: missing data is not bad data.
    fn default() -> Self {
        Health(Arc::new(AtomicBool::new(true)))
    }
}

impl Health {
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, is_up: bool) {
        self.0.store(is_up, Ordering::Relaxed);
    }
}

impl Fleet {
    /// `health` gives each edge, by name, the cell that its probes write.
    pub fn compile(state: &DnsState, mut health: impl FnMut(&MachineName) -> Health) -> Self {
        let edges: Vec<Edge> = state
            .edges
            .iter()
            .map(|edge| Edge {
                name: edge.name.clone(),
                region: edge.region.clone(),
                location: edge.location,
                ipv4: edge.ipv4.clone(),
                ipv6: edge.ipv6.clone(),
                is_drained: edge.is_drained,
                health: health(&edge.name),
            })
            .collect();
        let numbers: HashMap<&MachineName, usize> =
            edges.iter().enumerate().map(|(number, edge)| (&edge.name, number)).collect();
        let sites = state.sites.iter().map(|site| {
            let mut lagging = Vec::new();
            for number in site.lagging.iter().filter_map(|name| numbers.get(name)) {
                lagging.resize(lagging.len().max(number + 1), false);
                lagging[*number] = true;
            }
            Site { name: site.name.clone(), lagging }
        });
        let is_known = |target: &NetworkTarget| match target {
            NetworkTarget::Location(location) => location.is_valid(),
            NetworkTarget::Region(region) => edges.iter().any(|edge| edge.region == *region),
            NetworkTarget::Edge(name) => numbers.contains_key(name),
        };
        Self {
            sites: sites.collect(),
            // Tied to an edge that has left, a network is placed as if nothing were said of it.
            networks: state
                .networks
                .iter()
                .filter(|network| is_known(&network.target))
                .map(|network| (network.network, network.target.clone()))
                .collect(),
            steered_ttl_s: state.steered_ttl_s,
            answer_addresses_max: usize::from(state.answer_addresses_max.max(1)),
            edges,
        }
    }
}

impl Site {
    pub fn is_lagging(&self, edge: usize) -> bool {
        self.lagging.get(edge).copied().unwrap_or(false)
    }
}
