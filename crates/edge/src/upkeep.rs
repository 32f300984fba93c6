//! What is done to blobs while nobody asks for them?
//!
//! A slow pass reads all of them again and heals what is damaged; another removes what no release
//! needs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use nigh_core::blob::Store;
use nigh_daemon::Tasks;
use nigh_proto::{
    Digest,
    state::{EdgeState, MachineState},
};
use nigh_replica::Replica;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    config::StorageConfig,
    heal::Healer,
    load::{self, LoadError, Missing},
    metrics::Metrics,
};

/// Looks after the store.
#[derive(Clone)]
pub(crate) struct Upkeep {
    pub(crate) store: Store,
    pub(crate) healer: Healer,
    pub(crate) replica: Replica,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: StorageConfig,
}

/// How long reading `bytes` is to take.
fn pace(bytes: u64, bytes_per_s: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_s.max(1) as f64)
}

/// Sleeps; false when the edge stops instead.
async fn sleep_until_cancelled(duration: Duration, stopping: &CancellationToken) -> bool {
    stopping.run_until_cancelled(tokio::time::sleep(duration)).await.is_some()
}

impl Upkeep {
    /// Both passes, over and over, until the edge stops. A pass over the disk that has begun ends
    /// before its task does, so that nothing holds the store after the stop.
    pub(crate) fn start(self, tasks: &Tasks) {
        let (scrubbing, collecting) = (self.clone(), self);
        let (stopping, stopped) = (tasks.stopping().clone(), tasks.stopping().clone());
        tasks.spawn("scrub", async move { scrubbing.scrub_until(&stopping).await });
        tasks.spawn("collect", async move { collecting.collect_until(&stopped).await });
    }

    async fn scrub_until(self, stopping: &CancellationToken) {
        if self.config.scrub_bytes_per_s == 0 {
            return;
        }
        let mut wait_ms = self.config.scrub_after_ms;
        while sleep_until_cancelled(Duration::from_millis(wait_ms), stopping).await {
            self.scrub(stopping).await;
            wait_ms = self.config.scrub_every_ms;
        }
    }

    async fn scrub(&self, stopping: &CancellationToken) {
        let store = self.store.clone();
        let Ok(digests) = spawn_blocking(move || store.digests()).await else { return };
        let blobs = digests.len();
        let mut damaged = 0;
        for digest in digests {
            let Some(stat) = self.store.stat(&digest) else { continue };
            let store = self.store.clone();
            let is_whole = spawn_blocking(move || store.verify(&digest)).await.unwrap_or(true);
            self.metrics.scrubbed.inc();
            // It may have been collected while it was read.
            if !is_whole && self.store.contains(&digest) {
                damaged += 1;
                drop(self.healer.heal(Missing { digest, size_bytes: stat.raw_len }));
            }
            let pause = pace(stat.stored_len, self.config.scrub_bytes_per_s);
            if !sleep_until_cancelled(pause, stopping).await {
                return;
            }
        }
        tracing::info!(blobs, damaged, "read all blobs again");
    }

    async fn collect_until(self, stopping: &CancellationToken) {
        let wait = Duration::from_millis(self.config.collect_every_ms);
        while sleep_until_cancelled(wait, stopping).await {
            let state = self.replica.state().borrow().clone();
            if let Some(MachineState::Edge(_)) = state.as_deref() {
                self.collect(state.expect("it was just looked at")).await;
            }
        }
    }

    async fn collect(&self, state: Arc<MachineState>) {
        let store = self.store.clone();
        let young = Duration::from_millis(self.config.collect_young_ms);
        let collected = spawn_blocking(move || {
            let MachineState::Edge(state) = &*state else { return None };
            let live = match live(&store, state) {
                Ok(live) => live,
                Err(error) => {
                    // A release whose manifest is not here might need anything.
                    tracing::debug!(
                        error = nigh_daemon::logging::causes(&error),
                        "nothing is collected now"
                    );
                    return None;
                }
            };
            Some(store.collect(&|digest| live.contains(digest), young))
        });
        match collected.await {
            Ok(Some(Ok(collected))) if collected.blobs > 0 => {
                let (blobs, freed_bytes) = (collected.blobs, collected.freed_bytes);
                tracing::info!(blobs, freed_bytes, "removed blobs that no release needs");
            }
            Ok(Some(Err(error))) => {
                tracing::error!(
                    error = nigh_daemon::logging::causes(&error),
                    "blobs could not be collected"
                );
            }
            _ => {}
        }
    }
}

fn live(store: &Store, state: &EdgeState) -> Result<HashSet<Digest>, LoadError> {
    let mut live = HashSet::new();
    for reference in state.sites.iter().flat_map(|site| &site.releases) {
        live.extend(load::needs(store, reference)?);
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_as_long_as_its_rate_says() {
        assert_eq!(pace(32 << 20, 16 << 20), Duration::from_secs(2));
        assert_eq!(pace(0, 0), Duration::ZERO);
    }
}
