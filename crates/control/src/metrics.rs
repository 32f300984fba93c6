//! Which numbers does control show?

use std::{sync::atomic::AtomicU64, time::Duration};

use nigh_daemon::Metrics;
use nigh_proto::api::{DeliveryOutcome, ReleaseState};
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
    pub(crate) revision: Gauge,
    pub(crate) machines_connected: Gauge,
    pub(crate) blobs: Gauge<u64, AtomicU64>,
    pub(crate) blobs_bytes: Gauge<u64, AtomicU64>,
    pub(crate) variants: Counter,
    pub(crate) collected_blobs: Counter,
}

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
            revision: Gauge::default(),
            machines_connected: Gauge::default(),
            blobs: Gauge::default(),
            blobs_bytes: Gauge::default(),
            variants: Counter::default(),
            collected_blobs: Counter::default(),
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
            all.register("nigh_control_revision", "The newest state of the fleet", of.revision);
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
        });
        own
    }

    pub(crate) fn request(&self, method: &str, status: u16) {
        // Methods that no route has share one label, so that nobody can add labels at will.
        let known = ["GET", "HEAD", "POST", "PUT", "DELETE"];
        let method = if known.contains(&method) { method } else { "other" };
        let labels = vec![("method", method.to_owned()), ("code", status.to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn staged(&self, phase: ReleaseState, duration: Duration) {
        let labels = vec![("phase", phase.label().to_owned())];
        self.phases.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts an attempt to tell a webhook of an event.
    pub(crate) fn delivered(&self, outcome: DeliveryOutcome) {
        self.deliveries.get_or_create(&vec![("outcome", outcome.label().to_owned())]).inc();
    }

    /// Counts a release that has reached `state`.
    pub(crate) fn release(&self, state: ReleaseState) {
        self.releases.get_or_create(&vec![("state", state.label().to_owned())]).inc();
    }
}
