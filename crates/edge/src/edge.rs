//! What do all connections of an edge share?

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use nigh_core::http::CacheStatus;
use nigh_daemon::Clock;
use nigh_proto::{MachineName, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    access_log::AccessLog,
    certificates::Keyring,
    conduct::Conduct,
    metrics::{Cache, Metrics, SiteCounters},
    shelf::Shelf,
    tickets::Tickets,
    world::World,
};

/// Everything that answers are made of.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) name: Arc<str>,
    pub(crate) world: ArcSwap<World>,
    pub(crate) shelf: Shelf,
    pub(crate) keyring: Keyring,
    pub(crate) tickets: Tickets,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    /// Counts requests for hosts that are not known.
    pub(crate) no_site: SiteCounters,
    pub(crate) access_log: ArcSwapOption<AccessLog>,
    pub(crate) cache_status: CacheStatusValues,
    /// Where plain HTTP is redirected to; `None` without HTTPS.
    pub(crate) https_port: Option<u16>,
    pub(crate) request_body_bytes_max: usize,
    /// How long such a body may take.
    pub(crate) request_body_timeout: Duration,
    pub(crate) stopping: CancellationToken,
}

impl Edge {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// Whether visitors should come here.
    pub(crate) fn is_serving(&self) -> bool {
        self.world.load().has_state && !self.stopping.is_cancelled()
    }
}

/// The values of `Cache-Status` that an edge sends.
#[derive(Clone, Debug)]
pub(crate) struct CacheStatusValues {
    hit: HeaderValue,
    miss: HeaderValue,
}

impl CacheStatusValues {
    pub(crate) fn new(edge: &MachineName) -> Self {
        let cache = format!("nigh-{edge}");
        CacheStatusValues {
            hit: CacheStatus::Hit { detail: "push" }.to_value(&cache),
            miss: CacheStatus::Miss { detail: "push" }.to_value(&cache),
        }
    }

    pub(crate) fn hit(&self) -> HeaderValue {
        self.hit.clone()
    }

    pub(crate) fn miss(&self) -> HeaderValue {
        self.miss.clone()
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) ip: IpAddr,
    pub(crate) is_https: bool,
    /// The version of TLS, empty without.
    pub(crate) tls: &'static str,
    /// The name that the TLS connection was opened for.
    pub(crate) sni: Option<Box<str>>,
    pub(crate) conduct: Arc<Conduct>,
}

/// A request from when its head was read until its answer has left, or was given up.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) edge: Arc<Edge>,
    pub(crate) visitor: Arc<Visitor>,
}

impl InFlight {
    pub(crate) fn new(edge: Arc<Edge>, visitor: Arc<Visitor>) -> Self {
        edge.metrics.in_flight.inc();
        visitor.conduct.begin();
        InFlight { edge, visitor }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.edge.metrics.in_flight.dec();
        self.visitor.conduct.end();
    }
}

/// An answer, and what is known of how it came about.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: http::Response<crate::body::AnswerBody>,
    pub(crate) about: About,
}

/// For counters and the access log.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) serving: Option<Arc<crate::world::Serving>>,
    pub(crate) cache: Cache,
    pub(crate) saved_bytes: u64,
    pub(crate) encoding: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) error: &'static str,
}

impl Default for About {
    fn default() -> Self {
        About {
            serving: None,
            cache: Cache::None,
            saved_bytes: 0,
            encoding: "",
            rule: "-",
            error: "",
        }
    }
}
