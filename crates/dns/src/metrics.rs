//! Which numbers does a DNS server show?
//!
//! Labels are closed sets or names of the fleet's own machines: no stranger can make a series.

use std::{net::IpAddr, sync::atomic::AtomicU64};

use nigh_proto::{MachineName, state::Revision};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{answer::Reply, rr::kind, snapshot::Snapshot};

/// Everything that is counted; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DnsMetrics {
    queries: Family<QueryLabels, Counter>,
    silent: Counter,
    panicked: Counter,
    answer_edges: Family<EdgeLabels, Counter>,
    edge_up: Family<EdgeLabels, Gauge>,
    probes: Family<ProbeLabels, Counter>,
    tcp_connections: Gauge,
    tcp_evicted: Counter,
    geoip_loaded: Family<FileLabels, Gauge>,
    geoip_build: Family<FileLabels, Gauge<u64, AtomicU64>>,
    geoip_failures: Family<FileLabels, Counter>,
    revision: Gauge<u64, AtomicU64>,
    problems: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    rcode: &'static str,
    r#type: &'static str,
    proto: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EdgeLabels {
    edge: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    edge: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    file: &'static str,
}

impl DnsMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let r = registry;
        r.register("nigh_dns_queries", "Replies sent", self.queries.clone());
        r.register("nigh_dns_silent", "Packets that get no reply", self.silent.clone());
        r.register("nigh_dns_panics", "Packets whose answer failed", self.panicked.clone());
        r.register(
            "nigh_dns_answer_edge",
            "How often an edge was named in an answer",
            self.answer_edges.clone(),
        );
        r.register("nigh_dns_edge_up", "1 while probes find the edge up", self.edge_up.clone());
        r.register("nigh_dns_probes", "Probes of edges", self.probes.clone());
        r.register(
            "nigh_dns_tcp_connections",
            "Open TCP connections",
            self.tcp_connections.clone(),
        );
        r.register(
            "nigh_dns_tcp_evicted",
            "TCP connections closed to make room",
            self.tcp_evicted.clone(),
        );
        r.register(
            "nigh_dns_geoip_ok",
            "1 while the newest GeoIP file is in use, 0 while it is missing or an older one is kept",
            self.geoip_loaded.clone(),
        );
        r.register(
            "nigh_dns_geoip_build_timestamp_seconds",
            "When the GeoIP file in use was built",
            self.geoip_build.clone(),
        );
        r.register(
            "nigh_dns_geoip_failures",
            "GeoIP files that were not taken",
            self.geoip_failures.clone(),
        );
        r.register("nigh_dns_revision", "Revision of the state in use", self.revision.clone());
        r.register(
            "nigh_dns_zone_problems",
            "Records and hosts of the state that cannot be served as written",
            self.problems.clone(),
        );
    }

    pub(crate) fn count_reply(
        &self,
        reply: &Reply,
        snapshot: Option<&Snapshot>,
        proto: &'static str,
    ) {
        let labels = QueryLabels {
            rcode: reply.rcode.label(),
            r#type: reply.kind.map_or("unknown", kind::label),
            proto,
        };
        self.queries.get_or_create(&labels).inc();
        for &edge in &reply.edges {
            if let Some(edge) = snapshot.and_then(|snapshot| snapshot.fleet.edges.get(edge)) {
                self.answer_edges.get_or_create(&edge_labels(&edge.name)).inc();
            }
        }
    }

    pub(crate) fn count_silence(&self) {
        self.silent.inc();
    }

    pub(crate) fn count_panic(&self, source: IpAddr) {
        tracing::error!(client.addr = %source, "a packet could not be answered because of a bug");
        self.panicked.inc();
    }

    pub(crate) fn count_probe(&self, edge: &MachineName, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.probes.get_or_create(&ProbeLabels { edge: edge.to_string(), result }).inc();
    }

    pub(crate) fn set_edge_up(&self, edge: &MachineName, is_up: bool) {
        self.edge_up.get_or_create(&edge_labels(edge)).set(i64::from(is_up));
    }

    /// Ends the series of an edge that left the fleet.
    pub(crate) fn forget_edge(&self, edge: &MachineName) {
        self.edge_up.remove(&edge_labels(edge));
        self.answer_edges.remove(&edge_labels(edge));
        for result in ["success", "failure"] {
            self.probes.remove(&ProbeLabels { edge: edge.to_string(), result });
        }
    }

    pub(crate) fn connection_opened(&self) {
        self.tcp_connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.tcp_connections.dec();
    }

    pub(crate) fn connection_evicted(&self) {
        self.tcp_evicted.inc();
    }

    pub(crate) fn geoip_taken(&self, file: &'static str, built_at_s: u64) {
        self.geoip_loaded.get_or_create(&FileLabels { file }).set(1);
        self.geoip_build.get_or_create(&FileLabels { file }).set(built_at_s);
    }

    pub(crate) fn geoip_failed(&self, file: &'static str) {
        self.geoip_loaded.get_or_create(&FileLabels { file }).set(0);
        self.geoip_failures.get_or_create(&FileLabels { file }).inc();
    }

    pub(crate) fn state_taken(&self, revision: Revision, problems: usize) {
        self.revision.set(revision.0);
        self.problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }
}

fn edge_labels(edge: &MachineName) -> EdgeLabels {
    EdgeLabels { edge: edge.to_string() }
}
