//! Which edges are up, as seen from here?
//!
//! Every edge is asked every interval, all of them side by side; a verdict goes into the cell that
//! answers read, so nothing is rebuilt. With the default settings an edge that dies or freezes is
//! out of the answers within 2.2 s: it may die just after a good probe, and then needs two failures,
//! the second of which begins 1.5 s after that probe and ends 0.7 s later.

mod ask;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    collections::BTreeMap,
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::stream::{self, StreamExt as _};
use nigh_proto::{
    MachineName,
    state::{DnsEdge, ProbeTarget},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    ask::{Failure, ask},
    verdict::{Policy, Verdict},
};
use crate::{config::ProbeConfig, fleet::Health, metrics::DnsMetrics};

/// The edges that are probed and how they are; cheap to clone.
#[derive(Clone, Debug)]
pub struct Probes(Arc<Roster>);

#[derive(Debug)]
struct Roster {
    metrics: DnsMetrics,
    edges: Mutex<BTreeMap<MachineName, Probed>>,
}

#[derive(Debug, Default)]
struct Probed {
    targets: Arc<[ProbeTarget]>,
    verdict: Verdict,
    health: Health,
}

impl Probes {
    pub fn new(metrics: DnsMetrics) -> Self {
        Probes(Arc::new(Roster { metrics, edges: Mutex::default() }))
    }

    /// Probes these edges from now on. One that is known keeps its verdict; one that is new is up
    /// until probes say otherwise, as is one without any address to probe.
    pub fn set_edges(&self, edges: &[DnsEdge]) {
        let mut roster = self.edges();
        roster.retain(|name, _| {
            let is_kept = edges.iter().any(|edge| edge.name == *name);
            if !is_kept {
                self.0.metrics.forget_edge(name);
            }
            is_kept
        });
        for edge in edges {
            let probed = roster.entry(edge.name.clone()).or_default();
            probed.targets = edge.probes.as_slice().into();
            if probed.targets.is_empty() {
                probed.verdict = Verdict::default();
                probed.health.set(true);
            }
            self.0.metrics.set_edge_up(&edge.name, probed.verdict.is_up);
        }
    }

    /// The cell that the verdict on `edge` is written to.
    pub fn health(&self, edge: &MachineName) -> Health {
        self.edges().get(edge).map_or_else(Health::default, |probed| probed.health.clone())
    }

    /// Probes until `stopping`.
    pub async fn run(self, config: watch::Receiver<ProbeConfig>, stopping: CancellationToken) {
        let rounds = async {
            loop {
                let config = *config.borrow();
                let next = Instant::now() + Duration::from_millis(config.interval_ms);
                self.round(&config).await;
                sleep_until(next).await;
            }
        };
        stopping.run_until_cancelled(rounds).await;
    }

    /// Asks every edge once, at most `concurrency_max` at a time.
    async fn round(&self, config: &ProbeConfig) {
        let limit = Duration::from_millis(config.timeout_ms);
        let policy = Policy { failures: config.failures, successes: config.successes };
        let edges: Vec<_> = self
            .edges()
            .iter()
            .filter(|(_, probed)| !probed.targets.is_empty())
            .map(|(name, probed)| (name.clone(), Arc::clone(&probed.targets)))
            .collect();
        stream::iter(edges)
            .for_each_concurrent(config.concurrency_max, async |(name, targets)| {
                let result = ask(&targets, limit).await;
                self.observe(&name, result, policy);
            })
            .await;
    }

    fn observe(&self, name: &MachineName, result: Result<(), Failure>, policy: Policy) {
        self.0.metrics.count_probe(name, result.is_ok());
        let mut edges = self.edges();
        // The edge may have left the fleet while it was asked.
        let Some(probed) = edges.get_mut(name) else { return };
        if !probed.verdict.observe(result.is_ok(), policy) {
            return;
        }
        probed.health.set(result.is_ok());
        self.0.metrics.set_edge_up(name, result.is_ok());
        match result {
            Ok(()) => tracing::info!(edge.id = %name, "edge {name} is up and in the answers again"),
            Err(failure) => {
                let cause = failure.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                tracing::warn!(
                    edge.id = %name,
                    "edge {name} is down and left out of the answers: {failure}{cause}"
                );
            }
        }
    }

    fn edges(&self) -> MutexGuard<'_, BTreeMap<MachineName, Probed>> {
        self.0.edges.lock().expect("no code panics while it holds the roster")
    }
}
