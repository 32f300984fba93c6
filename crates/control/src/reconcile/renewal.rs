//! Which certificates of sites are near their end?

use std::time::Duration;

use nigh_proto::api::EventKind;
use serde_json::json;

use super::Reconcile;
use crate::{
    app::{App, AppError},
    ca::{is_due, is_superseded},
    config::CertificateMode,
    controls::Leader,
    store::{CertificateRow, Source},
};

const WAIT: Duration = Duration::from_secs(10 * 60);

/// Renews certificates of control's own CA at two thirds of their life, and when another CA signs.
#[derive(Debug)]
pub(crate) struct Renewal(pub(crate) App);

impl Reconcile for Renewal {
    const NAME: &'static str = "renewal";

    type Error = AppError;

    fn led_by(&self) -> Option<Leader> {
        Some(self.0.leader().clone())
    }

    async fn pass(&mut self) -> Result<Duration, AppError> {
        let app = &self.0;
        let (now, authority) = (app.now(), app.authority());
        if app.effective().config.certificates.mode != CertificateMode::Internal {
            return Ok(WAIT);
        }
        // Those of public CAs too, now that none is asked any more.
        let is_wanted = |row: &CertificateRow| {
            row.source != Source::Import
                && (is_due(row.not_before, row.not_after, now)
                    // People need time to trust another CA than that of a control which was lost.
                    || !row.is_of_lost_control() && is_superseded(&row.chain_pem, &authority))
        };
        if !app.world().certificates.iter().any(is_wanted) {
            return Ok(WAIT);
        }
        let mut tx = app.begin_leading().await?;
        let mut total = 0;
        for row in tx.certificates().await?.into_iter().filter(is_wanted) {
            let names: Vec<String> = row.names.iter().map(ToString::to_string).collect();
            let renewed = app.issue(&row.id, &names)?;
            tx.put_certificate(&renewed).await?;
            let site = row.id.strip_prefix("site:").and_then(|site| site.parse().ok());
            let data = json!({ "names": names, "not_after": renewed.not_after });
            let kind = EventKind::CertificateRenewed;
            tx.record(now, kind, site.as_ref(), &row.id, data).await?;
            total += 1;
        }
        tx.raise_revision().await?;
        tx.commit().await?;
        app.publish().await?;
        tracing::info!(certificates_total = total, "{total} certificates were renewed");
        Ok(WAIT)
    }
}
