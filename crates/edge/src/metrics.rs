//! Which numbers does an edge show?
//!
//! A site's counters are found once, when its hosts are planned; a request then only adds to them.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use http::Method;
use nigh_proto::SiteName;
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Statuses that are counted apart; any other counts as 500.
const CODES: [u16; 21] = [
    200, 204, 206, 301, 302, 303, 304, 307, 308, 400, 404, 405, 410, 412, 414, 416, 421, 451, 500,
    501, 503,
];
const METHODS: [&str; 4] = ["GET", "HEAD", "OPTIONS", "other"];
const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

/// Labels of one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RequestLabels {
    site: Box<str>,
    proto: &'static str,
    method: &'static str,
    code: u16,
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        let RequestLabels { site, proto, method, code } = self;
        for (name, value) in
            [("site", &**site), ("proto", proto), ("method", method), ("code", &code.to_string())]
        {
            use prometheus_client::encoding::EncodeLabel;
            (name, value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

type One = Vec<(&'static str, String)>;

/// Everything that an edge counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<One, Histogram, fn() -> Histogram>,
    response_bytes: Family<One, Counter>,
    saved_bytes: Family<One, Counter>,
    cache: Family<One, Counter>,
    sites: Mutex<std::collections::HashMap<SiteName, Arc<SiteCounters>>>,
    pub(crate) in_flight: Gauge<i64, AtomicI64>,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) connections_refused: Counter,
    pub(crate) handshakes: Family<One, Counter>,
    pub(crate) healed: Counter,
    pub(crate) scrubbed: Counter,
    fetched_bytes: Family<One, Counter>,
    pub(crate) log_lines_dropped: Counter,
    pub(crate) release_info: Family<One, Gauge>,
    pub(crate) certificate_not_after: Family<One, Gauge>,
    pub(crate) release_lag: Gauge<f64, AtomicU64>,
}

/// What one site counts. `cache` is by where the bytes came from.
#[derive(Debug)]
pub(crate) struct SiteCounters {
    site: Box<str>,
    requests: Box<[OnceLock<Counter>]>,
    all_requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    response_bytes: Counter,
    saved_bytes: Counter,
    cache: [Counter; 3],
}

/// Where an answer's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    Memory,
    Disk,
    /// There were none to send: redirects, missing files, 304.
    None,
}

impl Cache {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Cache::Memory => "memory",
            Cache::Disk => "disk",
            Cache::None => "none",
        }
    }
}

fn latency() -> Histogram {
    const SECONDS: [f64; 10] =
        [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];
    Histogram::new(SECONDS)
}

impl Metrics {
    /// Adds the edge's metrics to `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            requests: Family::default(),
            duration: Family::new_with_constructor(latency),
            response_bytes: Family::default(),
            saved_bytes: Family::default(),
            cache: Family::default(),
            sites: Mutex::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            handshakes: Family::default(),
            healed: Counter::default(),
            scrubbed: Counter::default(),
            fetched_bytes: Family::default(),
            log_lines_dropped: Counter::default(),
            release_info: Family::default(),
            certificate_not_after: Family::default(),
            release_lag: Gauge::default(),
        };
        metrics.add_traffic(registry);
        metrics.add_state(registry);
        metrics
    }

    fn add_traffic(&self, registry: &mut Registry) {
        let edge = registry.sub_registry_with_prefix("nigh_edge");
        edge.register("http_requests", "Requests answered", self.requests.clone());
        edge.register_with_unit(
            "http_request_duration",
            "From the head of a request to the head of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
        let bytes = self.response_bytes.clone();
        edge.register("http_response_bytes", "Bytes of bodies that were answered", bytes);
        let saved = "Bytes that encoding saved on the way";
        edge.register("encoding_saved_bytes", saved, self.saved_bytes.clone());
        edge.register("http_requests_in_flight", "Requests being answered", self.in_flight.clone());
        let from = "Files sent, by where they came from; memory over all is the hit ratio";
        edge.register("cache_requests", from, self.cache.clone());
        edge.register("connections", "Open connections", self.connections.clone());
        let refused = "Connections closed for want of room";
        edge.register("connections_refused", refused, self.connections_refused.clone());
        edge.register("tls_handshakes", "Finished handshakes", self.handshakes.clone());
    }

    fn add_state(&self, registry: &mut Registry) {
        let edge = registry.sub_registry_with_prefix("nigh_edge");
        edge.register("blobs_healed", "Damaged blobs that are whole again", self.healed.clone());
        edge.register("blobs_scrubbed", "Blobs that were read again", self.scrubbed.clone());
        let fetched = "Bytes of blobs that were fetched, by where they came from";
        edge.register("fetched_bytes", fetched, self.fetched_bytes.clone());
        let dropped = "Lines that the access log had no room for";
        edge.register("access_log_dropped", dropped, self.log_lines_dropped.clone());
        edge.register("release_info", "The release that a site serves", self.release_info.clone());
        let not_after = "When a certificate ends, in Unix time";
        edge.register("cert_not_after_seconds", not_after, self.certificate_not_after.clone());
        let lag = "How long the oldest release that is to be served here has not been";
        edge.register("release_lag_seconds", lag, self.release_lag.clone());
    }

    /// The counter of bytes fetched from `source`.
    pub(crate) fn fetched_bytes(&self, source: &'static str) -> Counter {
        self.fetched_bytes.get_or_create(&vec![("source", source.to_owned())]).clone()
    }

    /// The counters of `site`, the same ones for the same site.
    pub(crate) fn site(&self, site: &SiteName) -> Arc<SiteCounters> {
        let mut sites = self.sites.lock().expect("nothing panics while it holds this map");
        let counters = sites.entry(site.clone()).or_insert_with(|| Arc::new(self.counters(site)));
        Arc::clone(counters)
    }

    fn counters(&self, site: &SiteName) -> SiteCounters {
        let label = || vec![("site", site.to_string())];
        let cache = |from: Cache| {
            let status = from.label().to_owned();
            let labels = vec![("site", site.to_string()), ("status", status)];
            self.cache.get_or_create(&labels).clone()
        };
        SiteCounters {
            site: site.as_str().into(),
            requests: (0..CODES.len() * METHODS.len() * PROTOCOLS.len())
                .map(|_| OnceLock::new())
                .collect(),
            all_requests: self.requests.clone(),
            duration: self.duration.get_or_create(&label()).clone(),
            response_bytes: self.response_bytes.get_or_create(&label()).clone(),
            saved_bytes: self.saved_bytes.get_or_create(&label()).clone(),
            cache: [cache(Cache::Memory), cache(Cache::Disk), cache(Cache::None)],
        }
    }

    /// Counters of requests that belong to no site.
    pub(crate) fn no_site(&self) -> SiteCounters {
        let site: SiteName = "none".parse().expect("four letters");
        self.counters(&site)
    }
}

/// What is counted of one answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) status: u16,
    pub(crate) is_http2: bool,
    pub(crate) bytes: u64,
    pub(crate) saved_bytes: u64,
    pub(crate) cache: Cache,
    pub(crate) duration: Duration,
}

impl SiteCounters {
    /// Counts one answer.
    pub(crate) fn count(&self, method: &Method, counted: &Counted) {
        self.request(method, counted.is_http2, counted.status).inc();
        self.duration.observe(counted.duration.as_secs_f64());
        self.cache[counted.cache as usize].inc();
        if counted.bytes > 0 {
            self.response_bytes.inc_by(counted.bytes);
        }
        if counted.saved_bytes > 0 {
            self.saved_bytes.inc_by(counted.saved_bytes);
        }
    }

    fn request(&self, method: &Method, is_http2: bool, status: u16) -> &Counter {
        let code = CODES.iter().position(|code| *code == status).unwrap_or(18);
        let method = match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::OPTIONS => 2,
            _ => 3,
        };
        let proto = usize::from(is_http2);
        let place = (code * METHODS.len() + method) * PROTOCOLS.len() + proto;
        self.requests[place].get_or_init(|| {
            let (proto, method) = (PROTOCOLS[proto], METHODS[method]);
            let labels =
                RequestLabels { site: self.site.clone(), proto, method, code: CODES[code] };
            self.all_requests.get_or_create(&labels).clone()
        })
    }
}

/// Counts something as there until it is dropped.
#[derive(Debug)]
pub(crate) struct Present(Gauge<i64, AtomicI64>);

impl Present {
    pub(crate) fn new(gauge: &Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Present(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}
