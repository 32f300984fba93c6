//! Which numbers does control show?

use std::{sync::atomic::AtomicU64, time::Duration};

use nigh_daemon::Metrics;
use nigh_proto::{
    Timestamp,
    api::{DeliveryOutcome, ReleaseState},
};
use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};

/// One counter per set of label values; label names and values are fixed by the code.
type Labelled<M> = Family<Vec<(&'static str, String)>, M>;

type Phases = Family<Vec<(&'static str, String)>, Histogram, fn() -> Histogram>;

/// Control's own metrics; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ControlMetrics {
    requests: Labelled<Counter>,
    phases: Phases,
    releases: Labelled<Counter>,
    deliveries: Labelled<Counter>,
    logins_refused: Labelled<Counter>,
    pub(crate) revision: Gauge,
    pub(crate) leader: Gauge,
    pub(crate) machines_connected: Gauge,
    pub(crate) blobs: Gauge<u64, AtomicU64>,
    pub(crate) blobs_bytes: Gauge<u64, AtomicU64>,
    pub(crate) variants: Counter,
    pub(crate) collected_blobs: Counter,
    certificate_ends: Labelled<Gauge>,
    acme_orders: Labelled<Counter>,
    pub(crate) sent_bytes: Counter,
    listener_sent_bytes: Labelled<Counter>,
    pub(crate) bucket_usable: Gauge,
    pub(crate) bucket_lost_blobs: Gauge<u64, AtomicU64>,
}

/// Certificates that are shown by name; those that end first.
const CERTIFICATES_MAX: usize = 500;

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0])
}

impl ControlMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self {
            requests: Family::default(),
            phases: Family::new_with_constructor(seconds as fn() -> Histogram),
            releases: Family::default(),
            deliveries: Family::default(),
            logins_refused: Family::default(),
            revision: Gauge::default(),
            leader: Gauge::default(),
            machines_connected: Gauge::default(),
            blobs: Gauge::default(),
            blobs_bytes: Gauge::default(),
            variants: Counter::default(),
            collected_blobs: Counter::default(),
            certificate_ends: Family::default(),
            acme_orders: Family::default(),
            sent_bytes: Counter::default(),
            listener_sent_bytes: Family::default(),
            bucket_usable: Gauge::default(),
            bucket_lost_blobs: Gauge::default(),
        };
        metrics.register(|all| {
            let of = own.clone();
            all.register("nigh_control_api_requests", "Requests of people and tools", of.requests);
            all.register(
                "nigh_control_release_duration_seconds",
                "From the start of staging to the state that is the phase",
                of.phases,
            );
            all.register("nigh_control_releases", "Releases that reached a state", of.releases);
            all.register(
                "nigh_control_webhook_deliveries",
                "Attempts to tell webhooks of events",
                of.deliveries,
            );
            all.register(
                "nigh_control_logins_refused",
                "Wrong tokens, and tokens that were not looked at for too many wrong ones",
                of.logins_refused,
            );
            all.register("nigh_control_revision", "The newest state of the fleet", of.revision);
            all.register(
                "nigh_control_leader",
                "Whether this control does what only one of several may",
                of.leader,
            );
            all.register(
                "nigh_control_machines_connected",
                "Machines whose stream is open",
                of.machines_connected,
            );
            all.register("nigh_control_blobs", "Blobs in the store", of.blobs);
            all.register("nigh_control_blobs_bytes", "Their stored size", of.blobs_bytes);
            all.register("nigh_control_variants_made", "Contents that were encoded", of.variants);
            all.register(
                "nigh_control_blobs_collected",
                "Blobs that nothing needed any more",
                of.collected_blobs,
            );
            all.register(
                "nigh_control_certificate_not_after_seconds",
                "When certificates end, in Unix time; the 500 that end first",
                of.certificate_ends,
            );
            all.register(
                "nigh_control_acme_orders",
                "Certificates that were asked for, by what came of it",
                of.acme_orders,
            );
            all.register(
                "nigh_control_blobs_sent_bytes",
                "Bytes of blobs that machines were sent",
                of.sent_bytes,
            );
            all.register(
                "nigh_control_sent_bytes",
                "Bytes that left through a listener, with all that TLS and HTTP add",
                of.listener_sent_bytes,
            );
            all.register(
                "nigh_control_bucket_usable",
                "Whether the bucket can be used; 0 without one",
                of.bucket_usable,
            );
            all.register(
                "nigh_control_bucket_lost_blobs",
                "Blobs that the bucket had lost, since the start",
                of.bucket_lost_blobs,
            );
        });
        own
    }

    /// What counts the bytes that leave through a listener.
    pub(crate) fn sent_by(&self, listener: &'static str) -> Counter {
        let labels = vec![("listener", listener.to_owned())];
        self.listener_sent_bytes.get_or_create(&labels).clone()
    }

    pub(crate) fn request(&self, method: &str, status: u16) {
        // Methods that no route has share one label, so that nobody can add labels at will.
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let method = if known.contains(&method) { method } else { "other" };
        let labels = vec![("method", method.to_owned()), ("code", status.to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts somebody who was not let in: for a wrong `token`, or for the `rate` of those.
    pub(crate) fn login_refused(&self, reason: &'static str) {
        self.logins_refused.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    pub(crate) fn staged(&self, phase: ReleaseState, duration: Duration) {
        let labels = vec![("phase", phase.label().to_owned())];
        self.phases.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts an attempt to tell a webhook of an event.
    pub(crate) fn delivered(&self, outcome: DeliveryOutcome) {
        self.deliveries.get_or_create(&vec![("outcome", outcome.label().to_owned())]).inc();
    }

    /// Shows when each certificate ends.
    pub(crate) fn certificates<'a>(&self, ends: impl Iterator<Item = (&'a str, Timestamp)>) {
        let mut ends: Vec<(Timestamp, &str)> = ends.map(|(id, end)| (end, id)).collect();
        ends.sort_unstable();
        self.certificate_ends.clear();
        for (end, id) in ends.into_iter().take(CERTIFICATES_MAX) {
            let labels = vec![("id", id.to_owned())];
            self.certificate_ends.get_or_create(&labels).set(end.unix_ms() / 1000);
        }
    }

    /// Counts an order that came to its end.
    pub(crate) fn acme_order(&self, is_done: bool) {
        let result = if is_done { "issued" } else { "failed" };
        self.acme_orders.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    /// Counts a release that has reached `state`.
    pub(crate) fn release(&self, state: ReleaseState) {
        self.releases.get_or_create(&vec![("state", state.label().to_owned())]).inc();
    }
}
