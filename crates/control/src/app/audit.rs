//! Writing down what was refused, and letting go of what is old.

use super::{App, AppError};
use crate::{
    limits::Rate,
    request::{Actor, Request},
    store::{Deed, StoreError},
};

/// Refused changes that get a row of their own; the rest is in the log and in the metrics.
const REFUSALS: Rate = Rate::per_minute(60);

impl App {
    /// Writes down that somebody with a valid token wanted what they may not.
    pub(crate) async fn record_refusal(&self, request: &Request, code: &str) {
        let may =
            request.actor().is_some() && self.access().takes_refusal(REFUSALS, self.instant());
        if !may {
            return;
        }
        if let Err(error) = self.write_refusal(request, code).await {
            tracing::warn!(%error, request_id = request.id, "a refusal was not written down");
        }
    }

    async fn write_refusal(&self, request: &Request, code: &str) -> Result<(), StoreError> {
        let mut tx = self.store().begin_unrecorded().await?;
        tx.audit(request.at, Deed::of_request(request).refused(code)).await?;
        tx.commit().await
    }

    /// Prunes what was kept long enough. How many entries went.
    pub(crate) async fn prune_audit(&self) -> Result<u64, AppError> {
        let (config, now) = (self.effective().config.audit, self.now());
        let before = now.plus_ms(-i64::try_from(config.keep_ms).unwrap_or(i64::MAX));
        let mut tx = self.store().begin_unrecorded().await?;
        let pruned = tx.prune_audit(before, config.keep_entries, now).await?;
        if pruned > 0 {
            let deed = Deed::new("audit.prune", "audit").detail("entries_total", pruned);
            tx.audit_by(Actor::control(), now, deed).await?;
            tx.commit().await?;
        }
        Ok(pruned)
    }
}
