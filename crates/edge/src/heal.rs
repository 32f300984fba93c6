//! A blob is damaged on disk: how does it become whole again?
//!
//! The damaged bytes are forgotten at once and fetched again. Everyone who needs the same blob
//! waits for the same fetch; one that fails is repeated until control is back.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use nigh_core::{blob::Store, hot::HotCache};
use nigh_daemon::Tasks;
use nigh_proto::Digest;
use nigh_replica::FetchError;

use crate::{
    intake::{self, IntakeError, Source},
    load::Missing,
    metrics::Metrics,
};

/// The wait before the second try, doubled up to [`WAIT_MAX`].
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Blobs that are healed at the same time; further ones are found again by the next reader.
const HEALING_MAX: usize = 1024;

type Healed = Shared<BoxFuture<'static, ()>>;

/// Brings damaged blobs back; cheap to clone.
#[derive(Clone)]
pub(crate) struct Healer(Arc<Inner>);

struct Inner {
    store: Store,
    hot: Arc<HotCache>,
    source: Source,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    healing: Mutex<HashMap<Digest, Healed>>,
}

impl Healer {
    pub(crate) fn new(
        store: Store,
        hot: Arc<HotCache>,
        source: Source,
        tasks: Tasks,
        metrics: Arc<Metrics>,
    ) -> Self {
        Healer(Arc::new(Inner { store, hot, source, tasks, metrics, healing: Mutex::default() }))
    }

    /// Forgets a damaged blob and fetches it again; ends when it is whole, which may be never.
    /// `None` when too many others are being healed.
    pub(crate) fn heal(&self, missing: Missing) -> Option<Healed> {
        let mut healing = self.0.healing.lock().expect("nothing panics while it holds this map");
        if let Some(healed) = healing.get(&missing.digest) {
            return Some(healed.clone());
        }
        if healing.len() >= HEALING_MAX {
            return None;
        }
        let (done, healed) = tokio::sync::oneshot::channel::<()>();
        let healed = healed.map(drop).boxed().shared();
        healing.insert(missing.digest, healed.clone());
        let healer = self.clone();
        self.0.tasks.spawn("heal", async move {
            healer.heal_until_done(missing).await;
            healer.0.healing.lock().expect("as above").remove(&missing.digest);
            let _ = done.send(());
        });
        Some(healed)
    }

    async fn heal_until_done(&self, missing: Missing) {
        let digest = missing.digest;
        tracing::warn!(%digest, "a blob is damaged or gone; fetching it again");
        let inner = Arc::clone(&self.0);
        inner.hot.remove(&digest);
        let forgetting = Arc::clone(&inner);
        let forgotten = tokio::task::spawn_blocking(move || forgetting.store.forget(&digest));
        if let Ok(Err(error)) = forgotten.await {
            tracing::error!(%error, %digest, "the damaged blob could not be forgotten on disk");
        }
        let mut wait = WAIT_FIRST;
        let stopping = inner.tasks.stopping();
        loop {
            let fetching = intake::fetch_blob(&inner.store, &*inner.source, missing);
            let Some(fetched) = stopping.run_until_cancelled(fetching).await else { return };
            match fetched {
                Ok(()) => break,
                Err(IntakeError::Fetch(FetchError::Unknown { .. })) => {
                    tracing::error!(%digest, "control does not have this blob; push it again");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%digest, error = nigh_daemon::logging::causes(&error), "not healed; trying again");
                }
            }
            if stopping.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
        inner.metrics.healed.inc();
        tracing::info!(%digest, "the blob is whole again");
    }
}

impl fmt::Debug for Healer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Healer")
    }
}
