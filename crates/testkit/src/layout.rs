//! Which addresses does a fleet have, and does it get them again next time?

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{config::ControlAddresses, place::Place, ports::EdgeAddresses};

/// Every address of a fleet. Port 0 means that the child may choose, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) controls: Vec<ControlAddresses>,
    pub(crate) dns: Vec<DnsAddresses>,
    pub(crate) edges: Vec<EdgeLayout>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DnsAddresses {
    pub(crate) name: String,
    pub(crate) dns: SocketAddr,
    pub(crate) ops: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EdgeLayout {
    pub(crate) name: String,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) ops: SocketAddr,
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const FILE: &str = "fleet.json";

impl Layout {
    /// The layout that was saved in `dir`, as far as it fits these numbers; new addresses otherwise.
    pub(crate) fn load_or_find(
        dir: &Path,
        places: &[Place],
        dns: usize,
        controls: usize,
    ) -> Result<Self> {
        let path = dir.join(FILE);
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Self::find(places, dns, controls);
        };
        let layout: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not the layout of a fleet", path.display()))?;
        let same_edges = layout
            .edges
            .iter()
            .map(|edge| edge.name.as_str())
            .eq(places.iter().map(|place| place.edge));
        if !same_edges || layout.dns.len() != dns || layout.controls.len() != controls {
            let names: Vec<_> = layout.edges.iter().map(|edge| edge.name.as_str()).collect();
            bail!(
                "{} holds a fleet with {} edges ({}), {} DNS servers and {} controls; ask for the same numbers, or choose another folder",
                dir.display(),
                names.len(),
                names.join(", "),
                layout.dns.len(),
                layout.controls.len(),
            );
        }
        Ok(layout)
    }

    fn find(places: &[Place], dns: usize, controls: usize) -> Result<Self> {
        let EdgeAddresses { ips, http, https } = EdgeAddresses::find(places.len())?;
        let edges = places.iter().zip(ips).map(|(place, ip)| EdgeLayout {
            name: place.edge.to_owned(),
            http: (ip, http).into(),
            https: (ip, https).into(),
            // Not with all the others: whoever dials out from 127.0.0.1 could have this port by the
            // time that the edge starts again.
            ops: (ip, 0).into(),
        });
        let dns = (1..=dns).map(|number| DnsAddresses {
            name: format!("ns{number}"),
            dns: ANY,
            ops: ANY,
        });
        let controls = vec![ControlAddresses { api: ANY, machines: ANY, ops: ANY }; controls];
        Ok(Self { controls, dns: dns.collect(), edges: edges.collect() })
    }

    /// Keeps the layout in `dir`.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(dir.join(FILE), text).context("could not save the layout of the fleet")
    }

    /// The ports that all edges share.
    pub(crate) fn edge_ports(&self) -> (u16, u16) {
        self.edges.first().map_or((80, 443), |edge| (edge.http.port(), edge.https.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::PLACES;

    #[test]
    fn a_kept_fleet_gets_its_addresses_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Layout::load_or_find(dir.path(), &PLACES[..3], 1, 1).unwrap();
        first.save(dir.path()).unwrap();
        assert_eq!(Layout::load_or_find(dir.path(), &PLACES[..3], 1, 1).unwrap(), first);
    }

    #[test]
    fn a_kept_fleet_of_another_size_is_refused_by_its_numbers() {
        let dir = tempfile::tempdir().unwrap();
        Layout::load_or_find(dir.path(), &PLACES[..2], 1, 1).unwrap().save(dir.path()).unwrap();
        let error = Layout::load_or_find(dir.path(), &PLACES[..3], 1, 1).unwrap_err();
        assert!(error.to_string().contains("2 edges (fra, nyc)"), "{error}");
    }
}
