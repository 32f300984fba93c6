//! Where is a client, who says so, and how far around it is that the same?
//!
//! The operator's own networks win, the longest first; then the GeoIP file; then the table of
//! continents. The answer to "how far" is the ECS scope: it must never take in an address that
//! would be placed by another record, or a resolver's cache would send visitors to a wrong edge.

use std::net::IpAddr;

use ipnet::IpNet;
use nigh_proto::state::{Location, NetworkTarget};

use crate::{
    coarse::{self, Registry},
    geo::GeoFile,
    networks::Networks,
};

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place<'s> {
    pub basis: Basis<'s>,
    /// Every address that shares so many leading bits has the same `basis`.
    pub uniform_len: u8,
}

/// Who says where a client is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis<'s> {
    Operator { network: IpNet, target: &'s NetworkTarget },
    Geo { location: Location },
    Coarse { registry: Registry },
    Unknown,
}

impl Basis<'_> {
    /// The client's own place, where one is known.
    pub fn location(&self) -> Option<Location> {
        match *self {
            Basis::Operator { target: NetworkTarget::Location(location), .. } => Some(*location),
            Basis::Geo { location } => Some(location),
            Basis::Coarse { registry } => Some(registry.location()),
            Basis::Operator { .. } | Basis::Unknown => None,
        }
    }
}

/// Places `address`. Pure: the same arguments give the same place.
pub fn locate<'s>(
    networks: &'s Networks<NetworkTarget>,
    geo: Option<&GeoFile>,
    address: IpAddr,
) -> Place<'s> {
    let listed = networks.find(address);
    if let Some((network, target)) = listed.entry {
        let basis = Basis::Operator { network, target };
        return Place { basis, uniform_len: listed.uniform_len };
    }
    // From here on a block must hold no listed network, whatever else it is cut by.
    let geo = geo.map(|file| file.location(address));
    let mut uniform_len = listed.uniform_len.max(geo.map_or(0, |geo| geo.uniform_len));
    if let Some(location) = geo.and_then(|geo| geo.found) {
        return Place { basis: Basis::Geo { location }, uniform_len };
    }
    let coarse = coarse::TABLE.find(address);
    uniform_len = uniform_len.max(coarse.uniform_len);
    let basis = match coarse.entry {
        Some((_, Some(registry))) => Basis::Coarse { registry: *registry },
        Some((_, None)) | None => Basis::Unknown,
    };
    Place { basis, uniform_len }
}
