//! Which webhooks have something to be told?

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nigh_proto::WebhookId;
use tokio::sync::Semaphore;

use super::{Leader, Reconcile};
use crate::{
    app::{App, AppError},
    store::in_this_term,
};

const WAIT: Duration = Duration::from_secs(1);
/// Webhooks that are told something at once.
const TELLING_MAX: usize = 16;

/// Tells webhooks of events, each at its own pace: one that is slow holds nobody up.
#[derive(Debug)]
pub(crate) struct Webhooks {
    app: App,
    /// Those that are being told something.
    busy: Arc<Mutex<HashSet<WebhookId>>>,
    places: Arc<Semaphore>,
}

impl Webhooks {
    pub(crate) fn new(app: App) -> Self {
        Self { app, busy: Arc::default(), places: Arc::new(Semaphore::new(TELLING_MAX)) }
    }
}

impl Reconcile for Webhooks {
    const NAME: &'static str = "webhooks";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.app.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        for row in self.app.store().webhooks_due(self.app.now()).await? {
            let lock = || self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            if lock().contains(&row.id) {
                continue;
            }
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { break };
            lock().insert(row.id.clone());
            let (app, busy) = (self.app.clone(), Arc::clone(&self.busy));
            tokio::spawn(in_this_term(async move {
                let stopping = app.stopping().clone();
                tokio::select! {
                    told = app.tell(&row.id) => if let Err(error) = told {
                        let error = nigh_daemon::logging::causes(&error);
                        tracing::warn!(webhook.id = %row.id, error, "a webhook was not told");
                    },
                    // What was under way is sent again: at least once.
                    () = stopping.cancelled() => {}
                }
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.id);
                drop(place);
            }));
        }
        Ok(WAIT)
    }
}
