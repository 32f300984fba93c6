//! What are all answers of one moment made from?
//!
//! A [`Snapshot`] never changes, but for the health of edges, which probes write into cells that
//! outlive it. It is built off the query path and swapped in whole.

use std::{net::IpAddr, sync::Arc};

use nigh_proto::{
    MachineName,
    state::{DnsState, Revision},
};

use crate::{
    fleet::{Fleet, Health},
    geo::GeoFile,
    locate::{Place, locate},
    zone::{ZoneProblem, Zones},
};

/// Everything that an answer is made from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub revision: Revision,
    /// This machine: the payload of NSID.
    pub machine: MachineName,
    pub zones: Arc<Zones>,
    pub fleet: Arc<Fleet>,
    /// GeoIP files, replaced without a new state.
    pub geo: Geo,
}

/// The GeoIP files in use.
#[derive(Clone, Debug, Default)]
pub struct Geo {
    pub city: Option<Arc<GeoFile>>,
    pub asn: Option<Arc<GeoFile>>,
}

impl Snapshot {
    /// Compiles a state. What cannot be served as written is in the second value.
    pub fn compile(
        state: &DnsState,
        geo: Geo,
        health: impl FnMut(&MachineName) -> Health,
    ) -> (Self, Vec<ZoneProblem>) {
        let (zones, problems) = Zones::compile(&state.zones, &state.sites, &state.challenges);
        let snapshot = Self {
            revision: state.revision,
            machine: state.machine.clone(),
            zones: Arc::new(zones),
            fleet: Arc::new(Fleet::compile(state, health)),
            geo,
        };
        (snapshot, problems)
    }

    pub fn locate(&self, address: IpAddr) -> Place<'_> {
        locate(&self.fleet.networks, self.geo.city.as_deref(), address)
    }
}
