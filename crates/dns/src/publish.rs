//! How does a new state, or a new GeoIP file, become what answers are made from?
//!
//! A snapshot is compiled on a thread of its own and swapped in whole. Whatever arrives while one
//! is compiled is in the next: only the newest counts.

use std::sync::Arc;

use nigh_daemon::readiness::Condition;
use nigh_proto::state::{DnsState, MachineState, Revision};
use nigh_replica::{Replica, Standing};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::DnsMetrics,
    probe::Probes,
    responder::Responder,
    snapshot::{Geo, Snapshot},
};

/// Problems of a state that are logged one by one; the rest are only counted.
const PROBLEMS_LOGGED_MAX: usize = 20;

/// Everything that a new snapshot touches.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub replica: Replica,
    pub geo: watch::Receiver<Geo>,
    pub probes: Probes,
    pub responder: Arc<Responder>,
    pub metrics: DnsMetrics,
    /// Whether there is a state to answer from.
    pub ready: Condition,
}

impl Publisher {
    /// Publishes what is there now, so that a server which was restarted answers at once.
    pub(crate) async fn publish(&mut self, state: Option<Arc<MachineState>>) {
        let Some(state) = state else { return };
        let MachineState::Dns(dns) = &*state else {
            tracing::error!("control sent this DNS server the state of an edge; it is ignored");
            return;
        };
        let is_new = self.responder.snapshot().is_none_or(|old| old.revision != dns.revision);
        if is_new {
            self.probes.set_edges(&dns.edges);
            self.compile(Arc::clone(&state)).await;
        }
    }

    /// Publishes every change until `stopping`.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let mut states = self.replica.state();
        let mut is_geo_followed = true;
        loop {
            let newest = states.borrow_and_update().clone();
            self.publish(newest).await;
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                changed = self.geo.changed(), if is_geo_followed => match changed {
                    Ok(()) => self.take_geo(),
                    // Files are no longer followed; states still are.
                    Err(_) => is_geo_followed = false,
                },
                () = stopping.cancelled() => return,
            }
        }
    }

    async fn compile(&self, state: Arc<MachineState>) {
        let (probes, metrics) = (self.probes.clone(), self.metrics.clone());
        let geo = self.geo.borrow().clone();
        let compiled = tokio::task::spawn_blocking(move || match &*state {
            MachineState::Dns(state) => Some(compile(state, geo, &probes, &metrics)),
            MachineState::Edge(_) => None,
        });
        match compiled.await {
            Ok(Some(snapshot)) => self.swap_in(snapshot),
            Ok(None) => {}
            Err(_) => tracing::error!("a state could not be compiled by a bug; the old one stays"),
        }
    }

    fn swap_in(&self, snapshot: Snapshot) {
        let revision = snapshot.revision;
        self.responder.publish(Arc::new(snapshot));
        self.ready.set_ready();
        self.replica.report(Standing { revision: Some(revision), ..Standing::default() });
    }

    fn take_geo(&mut self) {
        let geo = self.geo.borrow_and_update().clone();
        if let Some(old) = self.responder.snapshot() {
            self.responder.publish(Arc::new(Snapshot { geo, ..Snapshot::clone(&old) }));
        }
    }
}

fn compile(state: &DnsState, geo: Geo, probes: &Probes, metrics: &DnsMetrics) -> Snapshot {
    let (snapshot, problems) = Snapshot::compile(state, geo, |edge| probes.health(edge));
    metrics.state_taken(state.revision, problems.len());
    for problem in problems.iter().take(PROBLEMS_LOGGED_MAX) {
        tracing::warn!("{problem}");
    }
    let Revision(revision) = state.revision;
    tracing::info!(
        revision,
        zones = state.zones.len(),
        sites = state.sites.len(),
        edges = state.edges.len(),
        problems = problems.len(),
        "answers are made from revision {revision}",
    );
    snapshot
}
