//! Which certificates are near their end?

use std::{sync::Arc, time::Duration};

use nigh_proto::{Timestamp, api::EventKind};
use serde_json::json;

use super::Reconcile;
use crate::{
    app::{App, AppError},
    ca::{Issued, Keys, is_due},
    config::CertificateMode,
    store::Source,
};

const WAIT: Duration = Duration::from_secs(10 * 60);

/// Renews at two thirds of a certificate's life: those of sites, and control's own.
#[derive(Debug)]
pub(crate) struct Renewal {
    app: App,
    keys: Arc<Keys>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Renewal {
    /// `own` is what `keys` hold.
    pub(crate) fn new(app: App, keys: Arc<Keys>, own: &Issued) -> Self {
        Self { app, keys, not_before: own.not_before, not_after: own.not_after }
    }

    fn renew_own(&mut self) -> Result<(), AppError> {
        let now = self.app.now();
        if !is_due(self.not_before, self.not_after, now) {
            return Ok(());
        }
        let names = self.app.effective().config.certificate_names();
        let issued = self.app.authority().issue(&names, now)?;
        if let Err(error) = self.keys.replace(&issued) {
            // The old one still has a third of its life.
            tracing::error!(%error, "control's own certificate was not renewed");
            return Ok(());
        }
        (self.not_before, self.not_after) = (issued.not_before, issued.not_after);
        Ok(())
    }
}

impl Reconcile for Renewal {
    const NAME: &'static str = "renewal";

    type Error = AppError;

    async fn pass(&mut self) -> Result<Duration, AppError> {
        self.renew_own()?;
        let now = self.app.now();
        let is_internal =
            self.app.effective().config.certificates.mode == CertificateMode::Internal;
        if !is_internal || !self.app.leader().is_leader() {
            return Ok(WAIT);
        }
        let mut due = self.app.store().certificates().await?;
        // Those of public CAs too, now that none is asked any more.
        due.retain(|row| {
            row.source != Source::Import && is_due(row.not_before, row.not_after, now)
        });
        if due.is_empty() {
            return Ok(WAIT);
        }
        let mut tx = self.app.begin_leading().await?;
        for row in &due {
            let names: Vec<String> = row.names.iter().map(ToString::to_string).collect();
            let renewed = self.app.issue(&row.id, &names)?;
            tx.put_certificate(&renewed).await?;
            let site = row.id.strip_prefix("site:").and_then(|site| site.parse().ok());
            let data = json!({ "names": names, "not_after": renewed.not_after });
            let kind = EventKind::CertificateRenewed;
            tx.record(now, kind, site.as_ref(), &row.id, data).await?;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        self.app.publish().await?;
        tracing::info!(certificates_total = due.len(), "{} certificates were renewed", due.len());
        Ok(WAIT)
    }
}
