//! Which edges should this client be sent to?
//!
//! [`choose`] sees only its arguments. It cannot fail: with every edge down it still names the
//! nearest, since a site that may be up beats one that is not there.

mod distance;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use nigh_proto::state::{Location, NetworkTarget};

pub use distance::{distance_km, rtt_ms};

use crate::{
    fleet::{Edge, Fleet, Site},
    locate::Basis,
};

/// A second edge may be named when it is at most so much slower than the first: clients pick one
/// of the addresses at random.
const CLOSE_MS: f64 = 5.0;
const CLOSE_SHARE: f64 = 0.10;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn addresses(self, edge: &Edge) -> Vec<IpAddr> {
        match self {
            Family::V4 => edge.ipv4.iter().copied().map(IpAddr::V4).collect(),
            Family::V6 => edge.ipv6.iter().copied().map(IpAddr::V6).collect(),
        }
    }

    fn is_served_by(self, edge: &Edge) -> bool {
        match self {
            Family::V4 => !edge.ipv4.is_empty(),
            Family::V6 => !edge.ipv6.is_empty(),
        }
    }
}

/// How far an edge is from what an answer wants; the lowest standing that any edge has is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Good,
    /// Up, but still without the site's active release.
    Lagging,
    /// Up, but taken out by the operator: only when nobody else is up.
    Drained,
    Down,
    DownAndDrained,
}

impl Standing {
    pub fn of(edge: &Edge, number: usize, site: &Site) -> Self {
        match (edge.health.is_up(), edge.is_drained) {
            (true, false) if site.is_lagging(number) => Standing::Lagging,
            (true, false) => Standing::Good,
            (true, true) => Standing::Drained,
            (false, false) => Standing::Down,
            (false, true) => Standing::DownAndDrained,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Standing::Good => "good",
            Standing::Lagging => "lagging",
            Standing::Drained => "drained",
            Standing::Down => "down",
            Standing::DownAndDrained => "down and drained",
        }
    }
}

/// The edges for an answer, the best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub addresses: Vec<IpAddr>,
    /// Numbers of the edges that have these addresses.
    pub edges: Vec<usize>,
    /// Whether clients everywhere get the same: there was only one edge to choose from.
    pub is_universal: bool,
}

/// An edge as one client sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    pub edge: usize,
    /// Named by the operator for the client's network, itself or by its region.
    pub is_preferred: bool,
    /// Estimated; `None` when nobody knows where the client is.
    pub rtt_ms: Option<f64>,
}

/// Picks up to `fleet.answer_addresses_max` addresses for `site` and a client placed by `basis`.
pub fn choose(fleet: &Fleet, site: &Site, family: Family, basis: &Basis<'_>) -> Choice {
    let ranked = rank(fleet, site, family, basis);
    let mut choice =
        Choice { addresses: Vec::new(), edges: Vec::new(), is_universal: ranked.len() <= 1 };
    let Some(&best) = ranked.first() else { return choice };
    for candidate in ranked.iter().take_while(|candidate| is_close(best, **candidate)) {
        let room = fleet.answer_addresses_max.saturating_sub(choice.addresses.len());
        if room == 0 {
            break;
        }
        let addresses = family.addresses(&fleet.edges[candidate.edge]);
        choice.addresses.extend(addresses.into_iter().take(room));
        choice.edges.push(candidate.edge);
    }
    choice
}

/// Every edge that may be named at all, the best first.
pub fn rank(fleet: &Fleet, site: &Site, family: Family, basis: &Basis<'_>) -> Vec<Ranked> {
    let candidates =
        || fleet.edges.iter().enumerate().filter(|(_, edge)| family.is_served_by(edge));
    let standing = candidates().map(|(number, edge)| Standing::of(edge, number, site)).min();
    let client = client_location(fleet, basis);
    let mut ranked: Vec<Ranked> = candidates()
        .filter(|(number, edge)| Some(Standing::of(edge, *number, site)) == standing)
        .map(|(number, edge)| Ranked {
            edge: number,
            is_preferred: is_preferred(edge, basis),
            rtt_ms: client.map(|client| rtt_ms(distance_km(client, edge.location))),
        })
        .collect();
    ranked.sort_by(|a, b| {
        let by_rtt = a.rtt_ms.unwrap_or(0.0).total_cmp(&b.rtt_ms.unwrap_or(0.0));
        let by_name = || fleet.edges[a.edge].name.cmp(&fleet.edges[b.edge].name);
        b.is_preferred.cmp(&a.is_preferred).then(by_rtt).then_with(by_name)
    });
    ranked
}

fn is_preferred(edge: &Edge, basis: &Basis<'_>) -> bool {
    match basis {
        Basis::Operator { target: NetworkTarget::Edge(name), .. } => edge.name == *name,
        Basis::Operator { target: NetworkTarget::Region(region), .. } => edge.region == *region,
        _ => false,
    }
}

/// A client whose network is tied to an edge or a region is taken to be there, so that the next
/// best edges are its neighbours.
fn client_location(fleet: &Fleet, basis: &Basis<'_>) -> Option<Location> {
    let preferred = || fleet.edges.iter().find(|edge| is_preferred(edge, basis));
    basis.location().or_else(|| preferred().map(|edge| edge.location))
}

/// Whether `other` may stand beside `best`. Of an unknown client nothing is known to be close.
fn is_close(best: Ranked, other: Ranked) -> bool {
    if best.edge == other.edge {
        return true;
    }
    match (best.rtt_ms, other.rtt_ms) {
        (Some(best_ms), Some(other_ms)) => {
            best.is_preferred == other.is_preferred
                && other_ms - best_ms <= CLOSE_MS.max(best_ms * CLOSE_SHARE)
        }
        _ => false,
    }
}
